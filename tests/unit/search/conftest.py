from collections.abc import Callable

import pytest

from sparsesearch.cost.analytic import AnalyticCost
from sparsesearch.geometry import BackboneGeometry, StageGeometry
from sparsesearch.schedule import Schedule
from sparsesearch.trial import Fidelity, Measurement, Origin, Proposal, Trial, TrialState


@pytest.fixture
def deit_small() -> BackboneGeometry:
    return BackboneGeometry(
        name="deit_small_patch16_224",
        image_size=(224, 224),
        stages=(StageGeometry(depth=12, dim=384, attn_dim=384, num_heads=6, mlp_dim=1536, grid=(14, 14)),),
        stem_macs=196 * 768 * 384,
        head_macs=384 * 1000,
        params=22_050_664,
    )


@pytest.fixture
def tiny() -> BackboneGeometry:
    """Four blocks over four tokens: a space that is soon exhausted."""
    return BackboneGeometry(
        name="tiny",
        image_size=(8, 8),
        stages=(StageGeometry(depth=4, dim=8, attn_dim=8, num_heads=1, mlp_dim=16, grid=(2, 2)),),
        stem_macs=1000,
        head_macs=80,
        params=5000,
    )


MakeTrial = Callable[..., Trial]


@pytest.fixture
def make_trial() -> MakeTrial:
    def make(
        geometry: BackboneGeometry,
        *,
        number: int,
        schedule: Schedule,
        top1: float | None,
        proposal: Proposal | None = None,
        budget_macs: int | None = None,
        state: TrialState = TrialState.COMPLETE,
        fidelity: Fidelity = Fidelity.SUPERNET,
        origin: Origin = Origin.SEARCH,
        macs: int | None = None,
    ) -> Trial:
        metrics = {} if top1 is None else {"val_top1": top1}
        measured = Measurement(step=0, attempt=1, fidelity=fidelity, metrics=metrics, seconds=0.0, seed=0)
        cost = AnalyticCost().estimate(geometry, schedule)
        return Trial(
            number=number,
            fidelity=fidelity,
            origin=origin,
            label="search",
            schedule=schedule,
            key=schedule.key(geometry),
            cost=cost if macs is None else cost.model_copy(update={"macs": macs}),
            seed=0,
            proposal=proposal,
            budget_macs=budget_macs,
            study="study",
            state=state,
            attempt=1,
            measurements=() if top1 is None else (measured,),
        )

    return make
