"""The command line. Exit codes: 0 all runs ok, 1 some run failed, 2 the request was wrong, 130 interrupted."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from ftlib.core.errors import FtlibError, several


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, do it, and return the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if not hasattr(options, "do"):
        parser.print_help()
        return 2
    try:
        return options.do(options)
    except FtlibError as error:
        print(f"ftlib: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough; what Python would still flush goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        from ftlib.core.surroundings import in_words

        print(f"ftlib: {in_words(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("ftlib: interrupted; the same command continues with what is not recorded", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ftlib",
        description="Which way of adapting this language model to my task should I use, and how sure can I be?",
    )
    commands = parser.add_subparsers(metavar="COMMAND")

    run = commands.add_parser("run", help="run a study: what is not recorded yet, then the report")
    run.add_argument("suite", metavar="SUITE", help="a study's folder, or its suite.toml")
    run.add_argument("--jobs", type=int, default=0, metavar="N", help="runs at a time (default: CPU cores / threads)")
    run.add_argument("--engine", default="local", metavar="local|dask", help="where runs execute (default: local)")
    run.add_argument("--scheduler", default="", metavar="ADDRESS", help="a running Dask scheduler, with --engine dask")
    run.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="field of all runs, or seeds")
    run.add_argument("--timeout", type=float, default=0, metavar="SECONDS", help="limit for one run (default: none)")
    run.add_argument("--dry-run", action="store_true", help="check everything, say what would run, run nothing")
    run.set_defaults(do=_run)

    one = commands.add_parser("run-one", help="execute one prepared run folder (what schedulers call)")
    one.add_argument("run_dir", metavar="RUN_DIR")
    one.set_defaults(do=_run_one)

    plan = commands.add_parser("plan", help="what a study will run, what its test set can show, and what it will need")
    plan.add_argument("suite", metavar="SUITE")
    plan.add_argument("--jobs", type=int, default=0, metavar="N", help="runs at a time (default: as `ftlib run`)")
    plan.add_argument("--no-trial", action="store_true", help="count memory from files; try nothing, predict no time")
    plan.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="field of all runs, or seeds")
    plan.set_defaults(do=_plan)

    report = commands.add_parser("report", help="make the report again from the records")
    report.add_argument("study", metavar="STUDY")
    report.add_argument(
        "--pdf", action="store_true", help="print the page to report.pdf too, with an installed browser"
    )
    report.add_argument(
        "--export",
        nargs="+",
        default=[],
        metavar="KIND",
        help="for other programs: tables as parquet, latex, markdown; figures as pdf; runs to mlflow, trackio",
    )
    report.set_defaults(do=_report)

    compare = commands.add_parser(
        "compare",
        help="compare two studies, runs, or tables and logs of others, example by example",
        description="A is judged against B. Each is a study, a run's folder, a table of predictions (CSV, TSV, JSONL, "
        "Parquet: id or text, label and prediction, or a score), samples_*.jsonl of lm_eval --log_samples or the "
        "folder that holds them, a log of inspect_ai, or a result of peft's method_comparison.",
    )
    compare.add_argument("a", metavar="A")
    compare.add_argument("b", metavar="B")
    compare.add_argument(
        "--metric", default="", metavar="NAME", help="default: the plan's, or the first that both have"
    )
    compare.add_argument("--margin", type=float, metavar="NUMBER", help="smallest difference that matters, as 0.01")
    compare.add_argument("--common", action="store_true", help="leave out examples that do not match, and say how many")
    compare.add_argument("--all-pairs", action="store_true", help="of two studies: every method with every")
    compare.add_argument("--lower-is-better", action="store_true", help="for a metric that ftlib does not know")
    compare.add_argument(
        "--columns", default="", metavar="WHAT=NAME,...", help="columns of a table: id, text, label, prediction, score"
    )
    compare.add_argument("--out", default="", metavar="FILE", help="every example that flipped, as .csv or .html")
    compare.add_argument(
        "--fail-if", action="append", default=[], metavar="CONDITION",
        help='exit with 1 where it holds: worse (A than B), undecided, or "lora.accuracy < 0.85"; may be repeated',
    )  # fmt: skip
    compare.set_defaults(do=_compare)

    export = commands.add_parser("export", help="a study's model as a folder that loads without ftlib")
    export.add_argument("folder", metavar="STUDY|RUN_DIR")
    export.add_argument("out", metavar="OUT", help="a folder that is not there yet")
    export.add_argument("--run", default="", metavar="RUN_ID", help="which run (default: the method that is advised)")
    export.add_argument("--method", default="", metavar="NAME", help="which method, by its name in the report")
    export.add_argument("--task", default="", metavar="TASK", help="which task, where a study has several")
    export.add_argument("--seeds", choices=("median", "all"), default="median", help="by validation (default: median)")
    export.add_argument("--merge", action="store_true", help="add an adapter to the weights: one folder, no base model")
    export.add_argument("--int8", action="store_true", help="in bytes: smaller, faster on a processor, nearly the same")
    export.set_defaults(do=_export)

    predict = commands.add_parser("predict", help="label, or translate, every row of a file with a saved model")
    predict.add_argument("model", metavar="RUN_DIR|MODEL_DIR")
    predict.add_argument("file", metavar="FILE", help="CSV, TSV, JSONL or Parquet; - for standard input")
    predict.add_argument("--out", default="", metavar="FILE", help="default: CSV on standard output")
    predict.add_argument("--task", default="", metavar="TASK", help="of a model of several tasks")
    predict.add_argument("--text-column", default="", metavar="NAME", help="default: guessed from the usual names")
    predict.add_argument("--group-column", default="", metavar="NAME", help="for a model that goes by groups")
    predict.add_argument("--threads", type=int, default=0, metavar="N", help="default: all cores")
    predict.set_defaults(do=_predict)

    check = commands.add_parser("check", help="audit a dataset before money is spent on it")
    check.add_argument("data", metavar="DATA", help="a task's name, as in a suite, or a path")
    check.add_argument("--text-column", default="", metavar="NAME", help='column of the text; "title+body" joins two')
    check.add_argument("--label-column", default="", metavar="NAME", help="column of the label")
    check.add_argument("--group-column", action="append", default=[], metavar="NAME", help="column of groups of people")
    check.add_argument("--quoting", default="", metavar="none", help="none: quotation marks of a CSV or TSV are text")
    check.set_defaults(do=_check)

    listing = commands.add_parser("list", help="what there is")
    listing.add_argument(
        "what", choices=("tasks", "models", "methods", "metrics", "evaluations", "notebooks", "studies")
    )
    listing.add_argument("folders", nargs="*", metavar="FOLDER", help="with models: folders of more of them")
    listing.add_argument("--json", action="store_true", help="for programs")
    listing.add_argument(
        "--memory", type=float, default=0.0, metavar="GB", help="with models: what one may take (default: all)"
    )
    listing.set_defaults(do=_list)

    doctor = commands.add_parser("doctor", help="is this installation fit to run?")
    doctor.add_argument("--clear-cache", action="store_true", help="remove what ftlib has kept in its cache")
    doctor.set_defaults(do=_doctor)

    card = commands.add_parser("card", help="a model card of a run, from its record")
    card.add_argument("folder", metavar="STUDY|RUN_DIR")
    card.add_argument("--run", default="", metavar="RUN_ID", help="which run, where a study has several")
    card.add_argument("--out", default="", metavar="FILE", help="default: MODEL_CARD.md in the run's folder")
    card.set_defaults(do=_card)
    return parser


def overrides(pairs: Sequence[str]) -> dict[str, Any]:
    """Read `--set field=value`: the value is JSON where it reads as JSON, text otherwise.

    Raises:
        FtlibError: A pair without "=".

    >>> overrides(["train_limit=200", "task=file:a.csv", "shots=[4, 8]"])
    {'train_limit': 200, 'task': 'file:a.csv', 'shots': [4, 8]}
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise FtlibError(f"--set {pair}: write it as field=value")
        try:
            found[name.strip()] = json.loads(value)
        except ValueError:
            found[name.strip()] = value
    return found


def _run(options: argparse.Namespace) -> int:
    from ftlib.execution import scheduler
    from ftlib.execution.engines import open_engine
    from ftlib.execution.planning import estimate
    from ftlib.execution.progress import watching

    # What a running scheduler's workers have is not what this machine has: memory, devices, cores.
    elsewhere = bool(options.scheduler)
    planned = scheduler.plan(options.suite, overrides(options.set), elsewhere)
    if not elsewhere and (problems := estimate.runs_that_do_not_fit(planned, ask=options.dry_run)):
        raise several(problems)
    waiting = [job for job in planned.jobs if not job.done]
    print(_overview(planned), flush=True)
    if waiting:
        from ftlib.plan_power import cautions, data_cautions

        print("".join(f"{line}\n" for line in [*cautions(planned), *data_cautions(planned)]), end="", flush=True)
    if options.dry_run:
        for job in waiting:
            print(f"  would run {job.spec.run_id}  {job.spec.task} {job.spec.method} seed={job.spec.seed}")
        return 0
    if options.jobs < 0 or options.timeout < 0:
        raise FtlibError("--jobs and --timeout: allowed: 0 or more")
    # With a scheduler, as many as its workers take: those that wait there do not count towards --timeout.
    jobs = options.jobs or (
        len(planned.jobs) if elsewhere else estimate.jobs_that_fit(planned, scheduler.default_jobs(planned))
    )
    already = len(planned.jobs) - len(waiting)
    specs = [job.spec for job in waiting]
    with open_engine(options.engine, jobs, options.scheduler, specs) as start, watching(jobs, already) as show:
        found = scheduler.execute(planned, jobs, show, start, options.timeout)
    failed = [record for record in found if record.status != "ok"]
    return _finish(planned.suite.folder, failed, len(planned.jobs) - len(found))


def _finish(study: Any, failed: list, open_runs: int) -> int:
    from ftlib.execution.saved import FOLDER
    from ftlib.records import records_of
    from ftlib.report import build, model_card

    path = build.build(study)
    for run_dir, record in records_of(study):
        if record.provenance.get("saved"):
            model_card.complete(run_dir, run_dir / FOLDER)
    for record in failed:
        resolved = record.spec["resolved"]
        print(f"{record.status}: {resolved['method']} seed={resolved['seed']} ({record.run_id}): {record.reason}")
    if open_runs:
        print(f"not finished: {open_runs} of its runs have no record; the same command continues")
    print(f"report: {path}")
    return 1 if failed or open_runs else 0


def _overview(planned: Any) -> str:
    suite = planned.suite
    done = sum(job.done for job in planned.jobs)
    from ftlib.core.atomic import cache_folder
    from ftlib.core.surroundings import bytecode_caution, cache_caution
    from ftlib.execution.scheduler import plan_changes, runs_again

    seeds = ", ".join(map(str, sorted({job.spec.seed for job in planned.jobs})))
    lines = [
        suite.question,
        f"plan {suite.plan_hash}: {suite.plan.primary}, margin {suite.plan.margin:g}, seeds {seeds}",
        *(f"  {name}: {own.primary}, margin {own.margin:g}" for name, own in suite.plan.tasks.items()),
        f"{len(planned.jobs)} runs, {done} recorded already, {len(planned.jobs) - done} to do",
        *([planned.threads] if planned.threads else []),
    ]
    if suite.added:
        lines.append("added, as in every report: " + ", ".join(f"{a.method} on {a.task}" for a in suite.added))
    lines += [f"caution: {caution}" for caution in (cache_caution(cache_folder()), bytecode_caution()) if caution]
    return "\n".join([*lines, *runs_again(planned), *plan_changes(planned)])


def _run_one(options: argparse.Namespace) -> int:
    from ftlib.execution import worker

    return worker.main(options.run_dir)


def _plan(options: argparse.Namespace) -> int:
    from ftlib.execution import scheduler
    from ftlib.execution.planning import estimate
    from ftlib.execution.progress import trying
    from ftlib.plan_power import data_cautions, power

    if options.jobs < 0:
        raise FtlibError("--jobs: allowed: 0 or more")
    planned = scheduler.plan(options.suite, overrides(options.set))
    print(_overview(planned))
    for text in [*power(planned), *data_cautions(planned)]:
        print(text, flush=True)
    wanted = options.jobs or scheduler.default_jobs(planned)
    with trying() as show:
        found = estimate.needs(planned, wanted, None if options.no_trial else show)
    jobs = estimate.fitting(found, wanted)
    print("\n".join(estimate.table(found, jobs)))
    if jobs < wanted and options.jobs:
        raise FtlibError(f"--jobs {wanted}: as many runs do not fit into memory together; --jobs {jobs} do")
    if not options.no_trial:
        estimate.save(planned, found, jobs)
    return 0


def _report(options: argparse.Namespace) -> int:
    from pathlib import Path

    from ftlib.report import build, exports

    kinds = [*options.export, *(["page"] if options.pdf else [])]
    exports.known(kinds)
    path = build.build(options.study, pdf="pdf" in kinds)
    print(path)
    written = exports.export(path.parent, kinds)
    folders = {str(one.parent) if isinstance(one, Path) else one for one in written}
    if written:
        print(written[0] if len(written) == 1 else f"{len(written)} files: {', '.join(sorted(folders))}")
    return 0


def _export(options: argparse.Namespace) -> int:
    from ftlib.notebook import export

    how = {"run": options.run, "method": options.method, "task": options.task}
    print(
        "\n".join(
            export(options.folder, options.out, **how, seeds=options.seeds, merge=options.merge, int8=options.int8)
        )
    )
    return 0


def _predict(options: argparse.Namespace) -> int:
    from ftlib.execution.predict import predict

    if options.threads < 0:
        raise FtlibError("--threads: allowed: 0 or more")
    said = predict(
        options.model,
        options.file,
        options.out,
        task=options.task,
        text_column=options.text_column,
        group_column=options.group_column,
        threads=options.threads,
    )
    # Labels may go to standard output.
    print(said, file=sys.stderr)
    return 0


def _check(options: argparse.Namespace) -> int:
    from ftlib.data.audit import check_data

    how = {"text_column": options.text_column, "label_column": options.label_column, "quoting": options.quoting}
    print(check_data(options.data, **how, group_columns=options.group_column))
    return 0


def _compare(options: argparse.Namespace) -> int:
    from pathlib import Path

    from ftlib.core.atomic import write_atomically
    from ftlib.report import compare

    conditions = [compare.condition(said) for said in options.fail_if]
    columns = compare.table_columns(options.columns)
    if options.out:
        compare.flips_file([], Path(options.out).suffix)  # A wrong ending is said before anything is read.
    a, b = (compare.read_source(side, path, columns) for side, path in (("A", options.a), ("B", options.b)))
    found = compare.compare_sources(
        a, b, metric=options.metric, margin=options.margin, common=options.common, all_pairs=options.all_pairs,
        lower_is_better=options.lower_is_better,
    )  # fmt: skip
    failed = compare.check(conditions, a, b, found)
    print("\n".join(compare.lines(a, b, found)))
    if options.out:
        said = compare.flips_file(found, Path(options.out).suffix)
        write_atomically(Path(options.out), lambda path: path.write_text(said, encoding="utf-8"))
        print(f"flips: {options.out}")
    for said in failed:
        print(f"gate not met: {said}")
    return 1 if failed else 0


def _list(options: argparse.Namespace) -> int:
    from ftlib.listing import catalogue, footer

    rows = catalogue(options.what, options.folders, options.memory)
    if options.json:
        print(json.dumps(rows, indent=1, ensure_ascii=False))
        return 0
    width = max((len(row["name"]) for row in rows), default=0)
    for row in rows:
        print(f"{row['name']:{width}}  {row['summary']}")
        for name, meaning in row.get("arguments", {}).items():
            print(f"{'':{width}}    {name}: {meaning}")
    if below := footer(options.what):
        print(below)
    return 0


def _card(options: argparse.Namespace) -> int:
    from ftlib.report import model_card

    print(f"card: {model_card.write(options.folder, options.run, options.out)}")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from ftlib.listing import findings

    if options.clear_cache:
        from ftlib.core.atomic import cache_folder, clear_cache
        from ftlib.core.format import plural, size

        files, freed = clear_cache()
        print(f"removed: {plural(files, 'file')}, {size(freed)}, of the cache {cache_folder()}")
    found = findings()
    for name, good, text in found:
        print(f"{'ok' if good else 'NOT OK':6}  {name}: {text}")
    return 0 if all(good for _, good, _ in found) else 1
