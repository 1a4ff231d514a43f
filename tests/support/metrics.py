"""Reading the page for Prometheus."""

import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from tests.support.waiting import PATIENCE_SECONDS

Key = tuple[str, ...]


def scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE_SECONDS) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        text: str = answer.read().decode()
        return text


def samples(page: str) -> dict[Key, float]:
    """(name, values of the labels in the order of their names …) → value."""
    return {
        (sample.name, *(sample.labels[label] for label in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }
