"""Rank correlation of the accuracy predictor on schedules that were not evaluated.

OMP_NUM_THREADS=1 python benchmarks/predictor.py TABLE

TABLE contains evaluated schedules of deit_pico's default space, one `{"schedule", "macs", "val_top1"}` per line, as
written by `supernet_ranking.py --table`. The predictor is fitted to some of them and predicts the others. Kendall's tau
is computed within fifths of the range of budgets, since over the whole range plain multiply-adds also rank well. It is
compared with the same predictor with equal length scales for all features, and with scikit-learn's extremely randomised
trees on the features and the multiply-adds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from landscapes import read_table
from scipy.stats import kendalltau
from sklearn.ensemble import ExtraTreesRegressor

from sparsesearch.search.samplers.arrays import Floats
from sparsesearch.search.samplers.kernel import Observations
from sparsesearch.search.samplers.likelihood import choose_settings
from sparsesearch.search.samplers.predictor import Predictor, on_error_scale
from sparsesearch.search.samplers.steps import Features
from sparsesearch.space.definition import space_for_backbone

SHOWN = (40, 100, 200)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--draws", type=int, default=8, help="random choices of the training schedules")
    arguments = parser.parse_args()
    geometry, schedules, macs, top1 = read_table(arguments.table)
    features = Features(geometry, space_for_backbone("deit_pico").resolve(geometry))
    x_NF, z_N = features.of(features.steps(schedules)), on_error_scale(np.array(top1))
    costs_N = np.array(macs, dtype=np.float64)
    print(f"{len(schedules)} schedules; Kendall's tau within fifths of the range\n")
    print("| shown | predictor | all features alike | trees | multiply-adds |\n|---|---|---|---|---|")
    for shown in SHOWN:
        rows = []
        for draw in range(arguments.draws):
            order = np.random.default_rng(draw).permutation(len(z_N))
            seen, rest = order[:shown], order[shown:]
            known = Observations(x_NF[seen], z_N[seen], np.zeros(shown, dtype=np.int64))
            both_NF = np.column_stack([x_NF, costs_N / costs_N.max()])
            trees = ExtraTreesRegressor(200, random_state=0).fit(both_NF[seen], z_N[seen])
            guesses = (
                Predictor(known, choose_settings(known, features.columns)).mean(x_NF[rest]),
                Predictor(known, choose_settings(known)).mean(x_NF[rest]),
                trees.predict(both_NF[rest]),
                costs_N[rest],
            )
            rows.append([tau_within(guess, z_N[rest], costs_N[rest]) for guess in guesses])
        print(f"| {shown} | " + " | ".join(f"{tau:.2f}" for tau in np.mean(rows, axis=0)) + " |", flush=True)


def tau_within(guess_P: Floats, true_P: Floats, costs_P: Floats) -> float:
    """Kendall's tau-b, averaged over five parts of the range of costs with equal numbers of schedules."""
    fifth_P = np.digitize(costs_P, np.quantile(costs_P, [0.2, 0.4, 0.6, 0.8]))
    parts = [fifth_P == fifth for fifth in range(5)]
    return float(np.mean([kendalltau(guess_P[part], true_P[part]).statistic for part in parts]))


if __name__ == "__main__":
    main()
