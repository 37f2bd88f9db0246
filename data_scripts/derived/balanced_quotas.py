"""How many questions to take of each answer so that no answer can be guessed from its frequency."""

from collections.abc import Mapping


__all__ = ["balanced_quotas"]


def balanced_quotas(capacities: Mapping[str, int], total: int, label_count: int) -> dict[str, int]:
    """Share a number of questions between answer labels as evenly as their capacities allow.

    Every label gets `min(capacity, t)` for the largest t such that the sum does not exceed `total` and no label has
    more than the share `1 / label_count + 1/4`. A topic with one label takes what it can.

    Args:
        capacities: Label to the number of questions that can be asked with this answer.
        total: Questions wanted.
        label_count: Number of labels that the topic can have, those absent here too, so that a topic where only one of
            two answers occurs is left out and not answered by heart.

    Returns:
        Label to number of questions; all 0 if no balanced choice exists.

    Raises:
        ValueError: If `total` or a capacity is negative, or there are more labels than `label_count`.
    """
    if total < 0 or min(capacities.values(), default=0) < 0 or len(capacities) > label_count:
        raise ValueError(
            f"total and capacities must not be negative and there must be at most label_count={label_count} labels; "
            f"got total={total}, capacities={dict(capacities)}. Count the questions of each label again."
        )
    largest_share = 1 / label_count + 0.25
    for limit in range(min(total, max(capacities.values(), default=0)), 0, -1):
        quotas = {label: min(capacity, limit) for label, capacity in capacities.items()}
        taken = sum(quotas.values())
        if taken <= total and max(quotas.values()) <= largest_share * taken:
            return quotas
    return dict.fromkeys(capacities, 0)
