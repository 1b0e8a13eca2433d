import pytest

from crds import path


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        ((), ""),
        (("spec", "http", 0, "match", 1), "spec.http[0].match[1]"),
        (("metadata", "labels", "app.kubernetes.io/name"), 'metadata.labels["app.kubernetes.io/name"]'),
        (("items", 2, "x-a"), "items[2].x-a"),
    ],
)
def test_steps_join_and_parents_lead_back(steps: tuple[str | int, ...], text: str) -> None:
    assert path.join(steps) == text
    for count in range(len(steps) - 1, -1, -1):
        text = path.parent(text)
        assert text == path.join(steps[:count])
