"""The model card that a run of any kind leaves."""

from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData


__all__ = ["write_card"]


def write_card(
    result: dict[str, Any],
    template: Path,
    path: Path,
    *,
    pipeline_tag: str,
    tags: tuple[str, ...],
    language: str | None = None,
    **context: Any,
) -> None:
    """Fill a card template with a result; every number in the card comes from it.

    Args:
        result: Of the run; a data set that its `data` says is on the Hub is named in the card's data.
        template: Jinja template.
        path: Card to write.
        pipeline_tag: Task, as the Hub names it.
        tags: Of the card, beside those of every card.
        language: Of the texts, where there are any.
        **context: What the template reads beside `result`.
    """
    data = result["data"]
    card = ModelCard.from_template(
        ModelCardData(
            language=language,
            license="apache-2.0",
            library_name="transformers",
            pipeline_tag=pipeline_tag,
            tags=["astrobiology", *tags, "modeling_astrobio"],
            datasets=[data["name"]] if data.get("hub") else None,
        ),
        template_path=str(template),
        result=result,
        **context,
    )
    path.write_text(str(card), encoding="utf-8")
