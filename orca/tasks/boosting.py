"""Boosted trees on numbers and categories, which stand beside the baselines of tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from orca.tasks.spec import Predictor
from orca.types import Examples, TargetKind


def boosting(cardinalities: Sequence[int], target: TargetKind) -> Predictor:
    """Gradient-boosted trees on histograms, as scikit-learn sets them, with the categories as such (Friedman 2001)."""

    def fit(train: Examples) -> Callable[[Examples], np.ndarray]:
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        coded: Any = [0 < k <= 255 for k in cardinalities]
        if target == "classes":
            trees = HistGradientBoostingClassifier(categorical_features=coded, random_state=0).fit(train.x, train.y)
            return lambda data: np.log(np.maximum(trees.predict_proba(data.x), 1e-12))
        each = [HistGradientBoostingRegressor(categorical_features=coded, random_state=0).fit(train.x, column)
                for column in train.y.T]  # fmt: skip
        return lambda data: np.stack([trees.predict(data.x) for trees in each], axis=1)

    return fit
