"""PyTorch's side: a Sequential Keras model as `torch.nn.Sequential`, with the same weights."""

import torch
from torch import nn

ACTIVATIONS = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "softmax": lambda: nn.Softmax(-1)}


class ChannelsLast(nn.Module):
    """(batch, ..., channels) to what PyTorch's convolutions take, or back."""

    def __init__(self, back=False):
        super().__init__()
        self.back = back

    def forward(self, x):
        """A view: where the memory lies does not change."""
        return x.movedim(1, -1) if self.back else x.movedim(-1, 1)


class GlobalMax(nn.Module):
    """The largest of each channel."""

    def forward(self, x):
        """`(batch, channels, steps)` to `(batch, channels)`."""
        return x.amax(-1)


def sequential(config, weights, logits):
    """The model of a Sequential config; without its last softmax where `logits`."""
    if "layers" not in config or any("inbound_nodes" in entry for entry in config["layers"]):
        raise ValueError("only Sequential models are written for PyTorch")
    weights, modules, spatial = iter(weights), [], False
    for entry in config["layers"]:
        kind, args = entry["class_name"], entry["config"]
        if kind == "InputLayer":
            continue
        if kind in ("Conv1D", "Conv2D") and not spatial:
            modules.append(ChannelsLast())
            spatial = True
        if kind == "Dense":
            kernel, bias = (torch.tensor(next(weights)) for _ in range(2))
            layer = nn.Linear(*kernel.shape)
            layer.weight.data, layer.bias.data = kernel.T.contiguous(), bias
        elif kind in ("Conv1D", "Conv2D"):
            kernel, bias = (torch.tensor(next(weights)) for _ in range(2))
            *window, inputs, filters = kernel.shape
            layer = (nn.Conv1d if len(window) == 1 else nn.Conv2d)(inputs, filters, tuple(window))
            kernel = kernel.movedim((-1, -2), (0, 1)).contiguous()
            layer.weight.data, layer.bias.data = kernel, bias
            if len(window) == 2:
                layer = layer.to(memory_format=torch.channels_last)
        elif kind == "MaxPooling2D":
            layer = nn.MaxPool2d(tuple(args["pool_size"]))
        elif kind == "GlobalMaxPooling1D":
            layer, spatial = GlobalMax(), False
        elif kind == "Flatten":
            if spatial:
                modules.append(ChannelsLast(back=True))
            layer, spatial = nn.Flatten(), False
        elif kind == "Embedding":
            layer = nn.Embedding.from_pretrained(torch.tensor(next(weights)), freeze=False)
        else:
            raise ValueError(f"{kind} is not written for PyTorch")
        modules.append(layer)
        activation = args.get("activation", "linear")
        if activation != "linear":
            modules.append(ACTIVATIONS[activation]())
    if logits and isinstance(modules[-1], nn.Softmax):
        modules.pop()
    return nn.Sequential(*modules)


def infer(config, weights, x, threads):
    """The call under `inference_mode`."""
    torch.set_num_threads(threads)
    model = sequential(config, weights, logits=False).eval()
    x = torch.from_numpy(x)

    def call():
        with torch.inference_mode():
            return model(x).numpy()

    return call


def train(config, weights, loss, x, y, threads):
    """A step with fused Adam, in Keras's settings."""
    torch.set_num_threads(threads)
    model = sequential(config, weights, logits=True).train()
    compute = nn.MSELoss() if loss == "mse" else nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-7, fused=True)
    x, y = torch.from_numpy(x), torch.from_numpy(y)

    def call():
        optimizer.zero_grad(set_to_none=True)
        value = compute(model(x), y)
        value.backward()
        optimizer.step()
        return value.item()

    return call
