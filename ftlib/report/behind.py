"""Methods whose training ended behind what was there without it, and what to try before they are given up."""

from collections.abc import Iterator

from ftlib.families import ENCODER
from ftlib.methods import METHODS
from ftlib.naming import known_family
from ftlib.report import say
from ftlib.report.contest import Contest
from ftlib.report.entrants import Contestant, called


def sentences(contest: Contest) -> list[str]:
    """Who is worse, by verdict, than the untouched model or a probe of it, and what to try before giving it up."""
    told = {one.name: (one, list(_ahead(contest, one))) for one in contest.contestants if _trained(one)}
    late = [(one, ahead) for one, ahead in told.values() if ahead]
    if not late:
        return []
    rivals = {rival.name: called(rival) for _, ahead in late for rival in ahead}
    names = say.some([called(one) for one, _ in late])
    them = "it" if len(late) == 1 else "them"
    remedies = ["more epochs", "a higher learning_rate", "a tuning budget"]
    if any(_at_random(one) for one, _ in late):
        remedies.insert(0, 'head = "probe", which starts the new head where a probe would')
    return [
        f"{names} ended behind {say.listed(list(rivals.values()), 'or')}, which took no training of the model: more "
        f"often a sign of too little training than of a worse method. Before setting {them} aside, "
        f"try {say.listed(remedies, 'or')}."
    ]


def _trained(one: Contestant) -> bool:
    return one.group is not None and one.group.method in METHODS and METHODS[one.group.method].trains


def _ahead(contest: Contest, one: Contestant) -> Iterator[Contestant]:
    """The untouched model and probes of the same one that are better, by verdict."""
    model = one.group.model
    for rival in contest.contestants:
        if rival.group is None:
            same = rival.name in ("untouched model", f"untouched {model}")
        else:
            same = rival.group.model == model and (rival.untouched or rival.group.method == "probe")
        duel = contest.duel(rival.name, one.name) if same else None
        if duel and duel.comparison.verdict == ("better" if duel.a == rival.name else "worse"):
            yield rival


def _at_random(one: Contestant) -> bool:
    fields = one.group.runs[0].resolved
    return fields.get("head", "new") == "new" and known_family(one.group.model) in ("", ENCODER)
