"""Every signature has its types, no function is long, public functions explain themselves, configs are typed."""

import ast
import re
import runpy
from itertools import chain

import pytest

import oodcert
from conftest import ROOT

STRUCTURE = runpy.run_path(str(ROOT / "docs" / "structure.py"))
MOST_LOOKUPS = 52  # in configs by a key's text. Lower it whenever there are fewer
BESIDE = {"with_name", "with_suffix", "with_stem", "name", "stem"}  # of a path: none of these leads upwards


@pytest.fixture(scope="module")
def modules():
    return STRUCTURE["read_package"](STRUCTURE["files_now"]())


def example(text):
    """The modules of a package with one file."""
    return STRUCTURE["read_package"]({"data/folder.py": text})


def listed(what, lines):
    return "\n".join([f"{len(lines)} {what}:", *map(str, lines)])


def test_every_signature_is_typed(modules):
    untyped = [f"{one.place}: {', '.join(one.untyped)}" for one in STRUCTURE["functions"](modules) if one.untyped]
    assert not untyped, listed("signatures without all types", untyped)


def test_no_function_is_long(modules):
    long = [f"{one.place}: {one.lines}" for one in STRUCTURE["functions"](modules) if one.lines > STRUCTURE["LONG"]]
    assert not long, listed(f"functions longer than {STRUCTURE['LONG']} lines without their docstring", long)


def test_configs_are_seldom_read_by_the_text_of_a_key(modules):
    lookups = STRUCTURE["config_lookups"](modules)
    assert len(lookups) <= MOST_LOOKUPS, listed(f"look-ups, more than {MOST_LOOKUPS}", lookups)


def test_one_module_alone_knows_where_the_repository_is(modules):
    upward = [use for module in modules if module.path != "paths.py" for use in upward_paths(module)]
    assert not upward, listed("paths that start from __file__ and are not in paths.py", upward)


def upward_paths(module):
    """The uses of __file__ other than Path(__file__).with_name(...) and the like, which stay in the folder."""
    nodes = list(ast.walk(module.tree))
    beside = {
        id(name)
        for node in nodes
        if isinstance(node, ast.Attribute) and node.attr in BESIDE and ast.unparse(node.value) == "Path(__file__)"
        for name in ast.walk(node)
    }
    for node in nodes:
        alone = isinstance(node, ast.Name) and node.id == "__file__" and id(node) not in beside
        if alone or (isinstance(node, ast.Attribute) and ast.unparse(node) == "oodcert.__file__"):
            yield f"{module.path}:{node.lineno}"


def test_everything_public_has_a_docstring(modules):
    silent = [place for module in modules for place, node in public(module) if not ast.get_docstring(node)]
    assert not silent, listed("public functions, classes and methods without a docstring", silent)


def public(module):
    """The place of a module's public functions, classes and methods, and the node of each.

    A property is left out if its class explains it among its Attributes.
    """
    kinds = (*STRUCTURE["FUNCTIONS"], ast.ClassDef)
    pending = [(node, "") for node in module.tree.body]
    for node, attributes in pending:
        if not isinstance(node, kinds) or node.name.startswith("_") or f"    {node.name}:" in attributes:
            continue
        yield f"{module.path}:{node.lineno} {node.name}", node
        if isinstance(node, ast.ClassDef):
            pending += [(one, sections_of(ast.get_docstring(node) or "").get("Attributes", "")) for one in node.body]


def test_docstrings_of_several_lines_have_the_sections(modules):
    gaps = [f"{module.path}: {gap}" for module in modules for gap in incomplete(module)]
    assert not gaps, listed("gaps in docstrings: say it all in one line, or with Args and Returns", gaps)


def incomplete(module):
    """What docstrings of several lines lack, of a module's public functions and methods."""
    kinds = (*STRUCTURE["FUNCTIONS"], ast.ClassDef)
    nodes = [node for node in module.tree.body if isinstance(node, kinds) and not node.name.startswith("_")]
    for node, arguments in chain.from_iterable(map(documented, nodes)):
        if not isinstance(node, ast.ClassDef) and "\n" in (ast.get_docstring(node) or ""):
            yield from missing_sections(node, arguments)


@pytest.mark.parametrize("name", oodcert.PUBLIC)
def test_the_public_api_documents_its_arguments_and_results(modules, name):
    (module,) = (one for one in modules if one.name == oodcert.PUBLIC[name])
    kinds = (*STRUCTURE["FUNCTIONS"], ast.ClassDef)
    (node,) = (one for one in module.tree.body if isinstance(one, kinds) and one.name == name)
    problems = [problem for one, arguments in documented(node) for problem in missing_sections(one, arguments)]
    assert not problems, listed(f"gaps in the docstrings of {name}", problems)


def documented(node):
    """A public function or class and the public methods of the class, each with the arguments it has to explain.

    The forward of a network is no method of its own: its class says what it maps to what.
    """
    if not isinstance(node, ast.ClassDef):
        return [(node, arguments_of(node))]
    methods = {one.name: one for one in node.body if isinstance(one, STRUCTURE["FUNCTIONS"])}
    annotated = [one.target.id for one in node.body if isinstance(one, ast.AnnAssign)]
    starts = arguments_of(methods["__init__"])[1:] if "__init__" in methods else annotated
    public = [one for name, one in methods.items() if not name.startswith("_") and name != "forward"]
    return [(node, starts), *((one, arguments_of(one)[1:]) for one in public)]


def arguments_of(node):
    """The names of a function's arguments."""
    args = node.args
    every = [*args.posonlyargs, *args.args, args.vararg, *args.kwonlyargs, args.kwarg]
    return [one.arg for one in every if one]


def missing_sections(node, arguments):
    """What the docstring of a function or class lacks: a section, or an argument in the section Args."""
    sections = sections_of(ast.get_docstring(node) or "")
    explained = sections.get("Args", "") + "\n" + sections.get("Attributes", "")
    heads = re.findall(r"^ {4}((?:\*{0,2}\w+(?: \([^)]*\))?(?:, )?)+):", explained, flags=re.MULTILINE)
    names = {name for head in heads for name in re.findall(r"\w+", re.sub(r"\([^)]*\)", "", head))}
    for argument in arguments:
        if argument not in names:
            yield f"{node.name}: {argument} is not in Args"
    if not isinstance(node, ast.ClassDef) and ast.unparse(node.returns or ast.Name("?")) != "None":
        decorators = map(ast.unparse, node.decorator_list)
        if "property" not in decorators and not {"Returns", "Yields"} & set(sections):
            yield f"{node.name}: no section Returns"


def sections_of(docstring):
    """The sections of a docstring in Google's style: their text by their title."""
    parts = re.split(r"^(\w+):\n(?= )", docstring, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_missing_types_are_seen_in_methods_and_in_nested_functions():
    text = """
class Images:
    def __init__(self, path: str, *rest, size=3) -> None:
        def read(one): ...
    @staticmethod
    def make(first) -> int: ...
    async def load(self) -> int: ...
"""
    missing = {one.place.split()[1]: one.untyped for one in STRUCTURE["functions"](example(text))}
    assert missing == {"__init__": ["size", "rest"], "read": ["one", "return"], "make": ["first"], "load": []}


def test_the_length_of_a_function_leaves_its_docstring_out():
    (one,) = STRUCTURE["functions"](
        example('@cache\ndef load():\n    """One.\n\n    Two.\n    """\n    # why\n    return 3\n')
    )
    assert one.lines == 3


def test_look_ups_in_configs_are_told_from_those_in_tables():
    text = "config['data']['ood'], run.config.get('seed'), rows['sigma'], config[0], settings[name], config.seed"
    assert len(STRUCTURE["config_lookups"](example(text))) == 3


def test_paths_beside_a_module_do_not_lead_upwards():
    text = "Path(__file__).with_name('a'), Path(__file__).parents[1], dirname(__file__), Path(oodcert.__file__)"
    assert len(list(upward_paths(*example(text)))) == 3


def test_public_methods_need_a_docstring_and_private_ones_do_not():
    text = '''
class Images:
    """Images.

    Attributes:
        size: in pixels.
    """
    def size(self): ...
    def load(self): ...
    def _read(self): ...
def _hidden(): ...
class _Hidden:
    def load(self): ...
'''
    assert [place.split()[1] for place, _ in public(*example(text))] == ["Images", "load"]


def test_a_docstring_of_one_line_may_say_it_all():
    text = '''
def load(path):
    """Images."""
class Images:
    def read(self, path) -> None:
        """Reads.

        It.
        """
'''
    assert list(incomplete(*example(text))) == ["read: path is not in Args"]


def test_a_docstring_is_read_as_google_writes_it():
    text = '''
def load(path, *names, size: int, strict):
    """Loads images.

    Args:
        path: a folder. Note: no file.
        *names, size (int): which
            strict: no head of its own

    Raises:
        InputError: on nothing.
    """
'''
    (node,) = example(text)[0].tree.body
    ((_, arguments),) = documented(node)
    assert list(missing_sections(node, arguments)) == ["load: strict is not in Args", "load: no section Returns"]
