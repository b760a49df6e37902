"""How thorough a run is."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Pairs of runs per row, and seconds of each run; as many token streams one after the other as `token_rounds`.

    `peers` names the groups of peers to compare with; the others take long to start. `install` lets them be installed.
    `only` names the sections to run, with commas.
    """

    pairs: int = 10
    seconds: float = 2.5
    peer_pairs: int = 5
    token_rounds: int = 2
    peers: tuple[str, ...] = ("best", "heavy", "other")
    install: bool = True
    only: str = ""


FULL = Settings()
QUICK = Settings(pairs=3, seconds=1.5, peer_pairs=3, token_rounds=1, peers=("best",), install=False)
