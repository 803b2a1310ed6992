"""Pictures of models, as SVG and PNG."""

import os

from lamina.plot.graph import Options, draw_graph

_VIEWS = ("graph", "neurons", "blocks")


class Picture:
    """A drawn model: shows itself in a notebook; `str(picture)` is the SVG."""

    def __init__(self, svg):
        self.svg = svg

    def to_png(self, dpi=200):
        """The picture as the bytes of a PNG with so many dots per inch; it is laid out at 96."""
        from lamina.plot.png import to_png

        return to_png(self.svg, dpi)

    def __str__(self):
        return self.svg

    def _repr_html_(self):
        return f'<div style="max-height: 640px; overflow: auto">{self.svg}</div>'


def plot_model(
    model,
    to_file="model.svg",
    show_shapes=True,
    show_dtype=False,
    show_layer_names=True,
    rankdir="TB",
    expand_nested=False,
    dpi=200,
    show_layer_activations=False,
    show_trainable=False,
    view="graph",
    **kwargs,
):
    """Draws a built model, writes the picture to a file and returns it.

        lamina.utils.plot_model(model, "model.svg")
        lamina.utils.plot_model(model, "neurons.svg", view="neurons")

    Args:
        model: the model. A subclass of `Model` whose `call` needs data (it asks for values) is one box.
        to_file: path that ends in `.svg` or `.png`; `None` writes nothing.
        show_shapes: write the shape of each tensor beside its arrow.
        show_dtype: write its dtype there.
        show_layer_names: write names of layers, not only types.
        rankdir: where the arrows go: `"TB"` (down), `"LR"` (right), `"BT"` or `"RL"`; in the view `"graph"`.
        expand_nested: draw the layers of nested models inside their boxes.
        dpi: dots per inch of a PNG; the picture is laid out at 96.
        show_layer_activations: write each layer's activation.
        show_trainable: write whether each layer with weights is trained.
        view: `"graph"`: a box for each call of a layer. `"neurons"`: a circle for each unit and an arrow for
            each weight, for chains of dense layers. `"blocks"`: feature maps drawn to scale, for
            convolutional networks.

    Returns:
        The `Picture`.

    Raises:
        ValueError: the model is not built, an argument or the file's ending is unknown, or the model has
            layers that the view cannot draw.
    """
    if kwargs:
        raise ValueError(f"Unrecognized keyword arguments: {kwargs}")
    ending = None if to_file is None else _ending(to_file)
    if not model.built:
        raise ValueError(
            "This model has not yet been built. Build the model first by calling `build()` or by calling the "
            "model on a batch of data."
        )
    if rankdir not in ("TB", "LR", "BT", "RL"):
        raise ValueError(f"rankdir must be 'TB', 'LR', 'BT' or 'RL'. Received: rankdir={rankdir!r}")
    if view not in _VIEWS:
        raise ValueError(f"view must be one of {_VIEWS}. Received: view={view!r}")
    options = Options(
        show_shapes,
        show_dtype,
        show_layer_names,
        rankdir,
        expand_nested,
        show_layer_activations,
        show_trainable,
    )
    if view == "graph":
        drawing = draw_graph(model, options)
    elif view == "neurons":
        from lamina.plot.neurons import draw_neurons

        drawing = draw_neurons(model, options)
    else:
        from lamina.plot.blocks import draw_blocks

        drawing = draw_blocks(model, options)
    picture = Picture(drawing.to_svg(f"Model {model.name}"))
    if to_file is not None:
        content = picture.svg.encode() if ending == ".svg" else picture.to_png(dpi)
        with open(to_file, "wb") as file:
            file.write(content)
    return picture


def _ending(to_file):
    ending = os.path.splitext(os.fspath(to_file))[1].lower()
    if ending not in (".svg", ".png"):
        raise ValueError(f"The file of a picture must end in .svg or .png. Received: to_file={to_file!r}")
    return ending
