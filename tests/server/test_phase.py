import pytest

from meshkit.server import Phase

LIFE = [Phase.NEW, Phase.SERVING, Phase.DRAINING, Phase.STOPPED]


def test_a_life_goes_one_way():
    phase = LIFE[0]
    for following in LIFE[1:]:
        phase = phase.to(following)
    assert phase is Phase.STOPPED


def test_what_never_started_may_stop():
    assert Phase.NEW.to(Phase.STOPPED) is Phase.STOPPED


@pytest.mark.parametrize(
    ("phase", "following"),
    [(p, f) for i, p in enumerate(LIFE) for f in LIFE[: i + 1]]
    + [(Phase.SERVING, Phase.STOPPED), (Phase.NEW, Phase.DRAINING)],
)
def test_nothing_goes_back_or_skips_the_drain(phase, following):
    with pytest.raises(RuntimeError, match=f"is {phase} cannot become {following}"):
        phase.to(following)
