"""What a saved model's configuration says, before its weights are loaded."""

from typing import Any

from lima.errors import ModelError
from lima.model.foreign import refuse_code
from lima.model.unusable import unusable
from lima.spec import ModelSpec


def saved_config(path: str, spec: ModelSpec) -> Any:
    """Return the configuration of the texts of a saved model, without its weights.

    That is all of it, or the part of a model that also reads images or sounds.

    Raises:
        ModelError: there is no configuration.

    """
    from transformers import AutoConfig

    try:
        saved = AutoConfig.from_pretrained(path, revision=spec.revision, trust_remote_code=False)
        return saved.get_text_config()
    except (OSError, ValueError, KeyError, ImportError) as error:
        refuse_code(path, spec.revision)
        raise unusable(path, "model", error) from error


def heads_of(config: Any) -> int:
    """Return the heads of keys and values that a configuration of `saved_config` says."""
    return int(getattr(config, "num_key_value_heads", None) or config.num_attention_heads)


def require_plan(path: str, spec: ModelSpec, ranks: int) -> None:
    """Refuse a model that transformers does not know how to cut.

    Raises:
        ModelError: it has no plan, or its heads do not divide.

    """
    config = saved_config(path, spec)
    reason = ""
    if not config.base_model_tp_plan:
        reason = f"transformers has no plan for models of the kind {config.model_type}"
    elif (heads := heads_of(config)) % ranks:
        reason = f"its {heads} heads of keys and values do not divide by {ranks}"
    if reason:
        raise ModelError(
            f"{path} cannot be cut over {ranks} GPUs: {reason}; set "
            "generate.compute.gpus_per_worker=1 if a GPU has room for it, else "
            "generate.engine=vllm (docs/generation.md)"
        )
