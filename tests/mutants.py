"""Break jnn in small ways, one at a time, and see whether a test fails: `python -m tests.mutants --number 300`.

The first run records in `out/mutants` which tests execute which line, which takes as long as all tests; `--record`
records again. Each mutant then has a process forked from one that has imported JAX, and a copy of the repository. Its
tests are those that execute its line, the cheapest of its own test file first, then what else these files hold: a line
that is traced counts as executed in the first test alone. `--again` takes the survivors of the run before.
"""

import argparse
import ast
import difflib
import importlib
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

import pytest

from tests import environment  # noqa: F401

ROOT = Path(__file__).parent.parent
OUT = ROOT / "out" / "mutants"
LIKE = {"+": "-", "-": "+", "*": "/", "/": "*", "**": "*", "//": "*", "%": "//", "&": "|", "|": "&", "@": "*"}
LIKE |= {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==", "<<": ">>", ">>": "<<"}
LIKE |= {"is": "is not", "is not": "is", "in": "not in", "not in": "in", "and": "or", "or": "and"}
LIKE |= {"sum": "mean", "mean": "sum", "min": "max", "max": "min", "minimum": "maximum", "maximum": "minimum"}
LIKE |= {"any": "all", "all": "any", "zeros": "ones", "ones": "zeros", "zeros_like": "ones_like", "floor": "ceil"}
OPERATOR = re.compile(r"\*\*|//|<<|>>|[<>=!]=|[-+*/%&|@<>]|\bis not\b|\bnot in\b|\b(?:is|in|and|or)\b")
MESSAGES = ("checks.", "errors", "TypeVar", "_check")  # calls whose texts are parts of messages
SAME_SWAPPED = {"isinstance", "issubdtype", "maximum", "minimum", "max", "min", "allclose", "array_equal"}


class Mutant(NamedTuple):
    """Bytes of a file that other text replaces, and the lines that must be executed to see it."""

    path: str
    start: int
    end: int
    text: str
    lines: tuple[int, int]

    def sources(self):
        before = (ROOT / self.path).read_bytes()
        return before, before[: self.start] + self.text.encode() + before[self.end :]

    def changes_code(self):
        try:
            before, after = (ast.dump(ast.parse(source)) for source in self.sources())
        except SyntaxError:
            return False
        return before != after

    def difference(self):
        before, after = (source.decode().splitlines() for source in self.sources())
        return "\n".join(difflib.unified_diff(before, after, self.path, self.path, n=1, lineterm=""))


def changes(source):
    """Every (start, end, text, lines) that changes the code: no texts of messages, no types, no docstrings."""
    starts = list(itertools.accumulate(map(len, source.splitlines(keepends=True)), initial=0))

    def span(node):
        return starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset

    def text(node):
        return source[slice(*span(node))].decode()

    def operator(left, right):
        (_, start), (end, _) = span(left), span(right)
        if found := OPERATOR.search(source[start:end].decode()):
            yield start + found.start(), start + found.end(), LIKE[found[0]]

    def swapped(a, b):
        (start, end), (second, last) = span(a), span(b)
        if text(a) != text(b) and not is_text(a) and not is_text(b):
            yield start, last, text(b) + source[end:second].decode() + text(a)

    def negated(test):
        if not isinstance(test, ast.UnaryOp):
            yield (*span(test), f"(not ({text(test)}))")

    def of_expression(node):
        match node:
            case ast.BinOp(left=left, right=right):
                if not any(isinstance(side, ast.JoinedStr) or is_text(side) for side in (left, right)):
                    yield from operator(left, right)
            case ast.BoolOp(values=[left, right, *_]):
                yield from operator(left, right)
            case ast.Compare(left=left, comparators=rest):
                for a, b in itertools.pairwise([left, *rest]):
                    yield from operator(a, b)
            case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
                yield (*span(node), f"({text(operand)})")
            case ast.IfExp(test=test):
                yield from negated(test)
            case ast.comprehension(ifs=[test, *_]):
                yield from negated(test)
            case ast.Constant(value=bool() as value):
                yield (*span(node), str(not value))
            case ast.Constant(value=int() | float() as value):
                yield (*span(node), str(value + 1 if isinstance(value, int) else 2 * value or 1.0))
            case ast.Constant(value=str() as value) if value.isidentifier():
                yield (*span(node), repr(value + "_"))
            case ast.Name(id=name) | ast.Attribute(attr=name) if name.isidentifier() and name in LIKE:
                yield span(node)[1] - len(name), span(node)[1], LIKE[name]
            case ast.Call(func=func, args=args, keywords=keywords):
                if text(func).split(".")[-1] not in SAME_SWAPPED and not any(isinstance(a, ast.Starred) for a in args):
                    for a, b in itertools.pairwise(args):
                        yield from swapped(a, b)
                for before, keyword in itertools.pairwise([*args[-1:], *keywords]):
                    end = span(before)[1]
                    if keyword.arg != "strict":
                        yield end + source[end:].find(b","), span(keyword)[1], ""

    def of_statement(node, known):
        match node:
            case ast.Return() if node in last:
                return
            case ast.Expr() | ast.AugAssign() | ast.Raise() | ast.Continue() | ast.Break() | ast.Return():
                yield (*span(node), "pass")
            case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
                yield (*span(node), "pass")
            case ast.Assign(targets=[ast.Name(id=name)]) if name in known:
                yield (*span(node), "pass")
            case ast.Assign(targets=[ast.Tuple(elts=[a, b, *_])]):
                yield from swapped(a, b)
            case ast.If(test=test):
                yield from negated(test)

    def is_text(node):
        return isinstance(node, ast.Constant) and isinstance(node.value, str)

    def walk(node, lines, known):
        match node:
            case ast.Expr(value=ast.Constant()) | ast.Assign(value=ast.Constant(value=str())) | ast.JoinedStr():
                return
            case ast.Assign(targets=[ast.Name(id="__all__" | "__version__")]) | ast.keyword(arg="strict"):
                return
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                return
            case ast.FunctionDef(args=args):
                lines = node.lineno, node.end_lineno
                known = {arg.arg for arg in [*args.posonlyargs, *args.args, *args.kwonlyargs]}
            case ast.stmt(lineno=first) if not isinstance(node, ast.ClassDef):
                body = getattr(node, "body", None)
                lines = first, max(first, body[0].lineno - 1) if body else node.end_lineno
                for change in of_statement(node, known):
                    yield *change, lines
                known |= {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        if isinstance(node, ast.Raise):
            return
        for change in of_expression(node):
            yield *change, lines
        messages = isinstance(node, ast.Call) and text(node.func).startswith(MESSAGES)
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "returns", "decorator_list", "bases"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST) and not (messages and is_text(child)):
                    yield from walk(child, lines, known)

    tree = ast.parse(source)
    last = {node.body[-1] for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    yield from walk(tree, (1, len(starts)), set())


def drawn(modules, number, seed):
    """Mutants in a random order, two of every module first."""
    draw, each = random.Random(seed), {}  # noqa: S311
    for path in modules:
        source = (ROOT / path).read_bytes()
        each[path] = [Mutant(path, *change) for change in dict.fromkeys(changes(source))]
        draw.shuffle(each[path])
    rest = [mutant for some in each.values() for mutant in some[2:]]
    draw.shuffle(rest)
    chosen = [mutant for some in each.values() for mutant in some[:2]] + rest
    return list(itertools.islice(filter(Mutant.changes_code, chosen), number))


class Recorder:
    """A plugin that records which tests execute a line, and how long each takes."""

    def __init__(self):
        import coverage

        self.file, self.seconds = None, defaultdict(float)
        options = {"data_file": OUT / "coverage", "data_suffix": True, "config_file": False}
        self.coverage = coverage.Coverage(source=["jnn"], **options)
        self.coverage.start()

    def pytest_runtest_logstart(self, nodeid, location):
        import jax

        if self.file != location[0]:  # what one file has traced, another shall trace again
            jax.clear_caches()
            self.file = location[0]
        self.coverage.switch_context(nodeid)

    def pytest_runtest_logreport(self, report):
        self.seconds[report.nodeid] += report.duration

    def pytest_sessionfinish(self):
        self.coverage.stop()
        self.coverage.save()
        (OUT / f"seconds.{os.getpid()}").write_text(json.dumps(self.seconds))


def pytest_configure(config):
    """With `-p tests.mutants`, every worker records."""
    if hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder())


def record():
    """Run all tests, and write {"seconds": {test: seconds}, "lines": {module: {line: tests}}}."""
    import coverage

    for path in [*OUT.glob("coverage*"), *OUT.glob("seconds.*")]:
        path.unlink()
    command = [sys.executable, "-m", "pytest", "--dist=loadfile", "-p", "tests.mutants"]
    subprocess.run(command, cwd=ROOT, check=True)
    seconds, lines = {}, defaultdict(lambda: defaultdict(set))
    for path in OUT.glob("seconds.*"):
        seconds |= json.loads(path.read_text())
    for path in OUT.glob("coverage.*"):
        data = coverage.CoverageData(path)
        data.read()
        for file in data.measured_files():
            for line, tests in data.contexts_by_lineno(file).items():
                lines["jnn" + file.rpartition("/jnn")[2]][line] |= set(tests) - {""}
    found = {path: {line: sorted(tests) for line, tests in of.items()} for path, of in lines.items()}
    (OUT / "record.json").write_text(json.dumps({"seconds": seconds, "lines": found}))


class Chosen:
    """A plugin that runs the tests of a mutant, the likeliest first, for at most `limit` seconds of this process."""

    def __init__(self, mutant, recorded, limit, verdict):
        lines = {int(line): set(tests) for line, tests in recorded["lines"].get(mutant.path, {}).items()}
        first, last = mutant.lines
        hit = set().union(*(tests for line, tests in lines.items() if first <= line <= last))
        self.hit = hit or set().union(*lines.values())  # what runs at import, all of the module's tests may see
        self.seconds, self.limit, self.verdict = recorded["seconds"], limit, verdict
        *_, folder, name = Path(mutant.path).with_suffix("").parts
        own = [f"tests/test_{name}.py" for name in (name, folder) if (ROOT / f"tests/test_{name}.py").exists()]
        self.own = own[0] if own else ""
        most = Counter(test.partition("::")[0] for test in self.hit).most_common(4)  # to collect more takes too long
        self.files = {file for file, _ in most} | set(own[:1])

    def pytest_collection_modifyitems(self, items):
        def place(item):
            here, hit = item.nodeid.startswith(f"{self.own}::"), item.nodeid in self.hit
            return (0 if here and hit else 1 if hit else 2 if here else 3), self.seconds.get(item.nodeid, 0.0)

        items.sort(key=place)
        self.end = time.process_time() + self.limit

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item):
        return time.process_time() > self.end or None  # True: no other plugin runs the test

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.verdict.write_text(report.nodeid)


def judged(mutant, copy, recorded, limit):
    """Run the tests of a mutant in a process of its own. Returns what happened, and which test failed."""
    path, verdict = copy / mutant.path, copy / "verdict"
    verdict.write_text("")
    source, broken = mutant.sources()
    written(path, broken)
    start = time.monotonic()
    if (child := os.fork()) == 0:
        tested(copy, Chosen(mutant, recorded, limit, verdict))
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < start + 60 + 10 * limit:
        time.sleep(0.05)
    written(path, source)
    if ended[0] == 0:
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return "timed out", ""
    code = os.waitstatus_to_exitcode(ended[1])
    if code in (pytest.ExitCode.INTERNAL_ERROR, pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise RuntimeError((copy / "output").read_text())
    return ("killed" if code else "survived"), verdict.read_text() or f"exit code {code}"


def written(path, source, times=itertools.count(2**30)):  # noqa: B008 shared
    """Write a module, at a time of its own: a compiled module of the same time and size would be taken for it."""
    path.write_bytes(source)
    os.utime(path, (now := next(times), now))


def tested(copy, chosen):
    """Become the process that tests what is in the copy."""
    status = 3
    try:
        os.setsid()
        with (copy / "output").open("w") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        os.chdir(copy)
        sys.path.insert(0, str(copy))
        os.environ["PYTHONPATH"] = os.pathsep.join([str(copy), os.environ.get("PYTHONPATH", "")])
        for name in [name for name in sys.modules if name.split(".")[0] == "tests"]:
            del sys.modules[name]
        options = ["-x", "-n0", "-q", "-p", "no:cacheprovider"]
        options += ["--rootdir", str(copy), "-W", "ignore::pytest.PytestAssertRewriteWarning"]
        status = pytest.main([*options, *sorted(chosen.files)], plugins=[chosen])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(status))


def warm():
    """Import what tests import, but not jnn, and start no thread of XLA's."""
    sys.path[:] = [path for path in sys.path if path not in ("", str(ROOT))]
    warnings.filterwarnings("ignore", message="os.fork")
    for name in ("beartype", "hypothesis", "optax", "orbax.checkpoint", "pytest", "safetensors.numpy", "scipy.stats"):
        importlib.import_module(name)
    assert "jnn" not in sys.modules


def report(results):
    """The table of the modules, and a diff for every survivor."""
    counts = defaultdict(Counter)
    for mutant, (what, _) in results:
        counts[mutant.path][what] += 1
        counts["all"][what] += 1
    kinds = ("killed", "timed out", "survived")
    table = [f"{path:32} {c.total():5} made " + ", ".join(f"{c[k]:4} {k}" for k in kinds) for path, c in counts.items()]
    return "\n".join([*sorted(table), "", *(m.difference() for m, (what, _) in results if what == "survived")])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=300, help="of mutants")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--modules", nargs="+", default=["jnn"], help="files or folders")
    parser.add_argument("--limit", type=float, default=20, help="seconds of tests for a mutant")
    parser.add_argument("--record", action="store_true", help="record again which tests execute which line")
    parser.add_argument("--again", action="store_true", help="the survivors of the run before")
    options = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    if options.record or not (OUT / "record.json").exists():
        record()
    recorded, last = json.loads((OUT / "record.json").read_text()), OUT / "results.json"
    if options.again:
        chosen = [Mutant(*mutant) for mutant, (what, _) in json.loads(last.read_text()) if what == "survived"]
    else:
        paths = sorted(path.relative_to(ROOT) for path in ROOT.glob("jnn/**/*.py") if path.name != "typing.py")
        modules = [str(path) for path in paths if any(path.is_relative_to(name) for name in options.modules)]
        chosen = drawn(modules, options.number, options.seed)
    warm()
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        ignored = shutil.ignore_patterns(".git", ".venv*", "*_cache", "__pycache__", "out")
        copy = Path(shutil.copytree(ROOT, Path(scratch, "copy"), ignore=ignored))
        for mutant in chosen:
            start = time.monotonic()
            results.append((mutant, judged(mutant, copy, recorded, options.limit)))
            print(f"{len(results)}/{len(chosen)} {mutant.path}:{mutant.lines[0]}", *results[-1][1], end=" ")
            print(f"{time.monotonic() - start:.1f} s", flush=True)
            last.write_text(json.dumps(results))
    (OUT / "report.txt").write_text(report(results))
    print(report(results))


if __name__ == "__main__":
    main()
