"""The arguments that all optimizers take: their names and what they may be."""

from lamina.engine.tracebacks import warn
from lamina.errors import did_you_mean

COMMON_SETTINGS = (
    *("name", "weight_decay", "clipnorm", "global_clipnorm", "clipvalue", "use_ema", "ema_momentum"),
    *("ema_overwrite_frequency", "loss_scale_factor", "gradient_accumulation_steps"),
)


def reject_unknown(arguments, settings):
    """ValueError, with the name that was meant, for keywords that no optimizer takes."""
    if arguments.pop("decay", None) is not None:
        warn(
            "Argument `decay` is no longer supported and will be ignored. "
            "Use a schedule: `learning_rate=InverseTimeDecay(...)`.",
        )
    if arguments:
        known = [*COMMON_SETTINGS, *settings, "learning_rate"]
        hints = "".join(did_you_mean(key, known) for key in arguments)
        raise ValueError(f"Argument(s) not recognized: {arguments}.{hints}")


def check_settings(clipnorm, clipvalue, global_clipnorm, momentum, frequency, accumulation):
    """ValueError for settings that contradict each other or are out of range; None or False: not used."""
    if sum(clip is not None for clip in (clipnorm, clipvalue, global_clipnorm)) > 1:
        raise ValueError(
            "Only one of `clipnorm`, `clipvalue` and `global_clipnorm` can be set. "
            f"Received: clipnorm={clipnorm}, clipvalue={clipvalue}, global_clipnorm={global_clipnorm}"
        )
    if not 0 <= momentum <= 1:
        raise ValueError(f"`ema_momentum` must be in the range [0, 1]. Received: ema_momentum={momentum}")
    if frequency and (not isinstance(frequency, int) or frequency < 1):
        raise ValueError(
            "`ema_overwrite_frequency` must be an integer >= 1 or None. "
            f"Received: ema_overwrite_frequency={frequency}"
        )
    if accumulation and not accumulation >= 2:
        raise ValueError(
            "`gradient_accumulation_steps` must be an integer >= 2. "
            f"Received: gradient_accumulation_steps={accumulation}"
        )


def as_rate(value):
    """A learning rate as a Python float; ValueError for anything that is not a number."""
    try:
        if isinstance(value, (bool, str)):
            raise TypeError
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(
            "Argument `learning_rate` should be float, or an instance of LearningRateSchedule, or a callable "
            "(that returns the corresponding learning rate value). "
            f"Received instead: learning_rate={value!r}"
        ) from None
