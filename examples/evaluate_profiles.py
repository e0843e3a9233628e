"""Compare two rank profiles of a running application on judged queries.

python examples/evaluate_profiles.py DATA http://localhost:8080 bm25 blend

The endpoint is an embedded engine (`ranker serve app --data db`), which hands out its application
package; for a Vespa endpoint, pass the package's folder as `ranker.Client(url, "app")`.
"""

import sys

import ranker


def main(data: str, url: str, baseline: str, profile: str) -> None:
    """Evaluate both, print means and the paired difference, and write a page."""
    with ranker.Client(url) as client:
        evaluation = ranker.evaluate(
            data, client, "evaluation", profiles=[baseline, profile], baseline=baseline
        )
    for name in evaluation.profiles:
        print(f"{name:12} nDCG@10 {evaluation.mean(name, 'nDCG@10'):.4f}")
    for row in evaluation.comparisons:
        low, high = row["interval"]
        print(f"difference   {row['mean_difference']:+.4f} [{low:+.4f}, {high:+.4f}]")
    print(ranker.report([evaluation], "report.html"))


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except ranker.RankerError as error:
        sys.exit(f"error: {error}")
