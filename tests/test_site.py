"""The site: built without a warning, complete, without a dead link, and whole without a network."""

import fcntl
import functools
import html
import html.parser
import http.server
import os
import re
import subprocess
import sys
import threading
from urllib.parse import unquote, urlsplit

import pytest

from tests.helpers import MODULES
from tests.test_docs import FIELDS, FUNCTIONS, PUBLIC, ROOT, annotations, shapes

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """As `make docs` builds it, once for all workers; a warning is an error."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "-d", folder / "doctrees"]
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "site").exists():
            command += ["-c", ROOT / "docs", ROOT, folder / "built"]
            done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
            assert done.returncode == 0, done.stderr
            (folder / "built").rename(folder / "site")
    return folder / "site"


class Page(html.parser.HTMLParser):
    """What a page links to, what it loads, and what it can be linked at."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loads, self.ids = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        of = dict(attrs)
        self.ids |= {of[name] for name in ("id", "name") if of.get(name)}
        if tag == "a" and of.get("href"):
            self.links.append(of["href"])
        elif tag in ("script", "img", "link", "iframe", "source") and (of.get("src") or of.get("href")):
            self.loads.append(of.get("src") or of["href"])


@pytest.fixture(scope="session")
def pages(site):
    return {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}


def test_every_link_leads_to_a_page_and_a_place_in_it(pages, site):
    dead = []
    for path, page in pages.items():
        for link in page.links + page.loads:
            if re.match(r"https?:|mailto:|data:", link):
                continue
            of = urlsplit(link)
            there = (path.parent / unquote(of.path)).resolve() if of.path else path
            anchor = unquote(of.fragment) if there.suffix == ".html" else ""
            if not there.is_file() or (anchor and anchor not in pages[there].ids):
                dead.append((path.relative_to(site).as_posix(), link))
    assert not dead
    assert sum(len(page.links) for page in pages.values()) > 1_000


def test_nothing_is_loaded_from_elsewhere(pages, site):
    loaded = [link for page in pages.values() for link in page.loads]
    assert not [link for link in loaded if re.match(r"(https?:)?//", link)]
    for style in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(https?:)?//", style.read_text(encoding="utf-8")), style


def test_the_site_has_every_page_notebook_and_figure(site):
    written = {path.relative_to(site).with_suffix("").as_posix() for path in site.rglob("*.html")}
    sources = [*(ROOT / "docs").rglob("*.md"), *(ROOT / "notebooks").glob("*.ipynb")]
    assert not {path.relative_to(ROOT).with_suffix("").as_posix() for path in sources} - written
    assert {f"docs/reference/jnn.{name}" for name in MODULES} | {"draw", "index"} <= written
    titles = [re.search(r"<h1>(.*?)<", path.read_text(encoding="utf-8")) for path in site.rglob("*.html")]
    assert [title[1] for title in titles if title].count("jnn") == 1
    gallery = (site / "docs/gallery.html").read_text(encoding="utf-8")
    assert re.findall(r'<img alt="[^"]+" src="\.\./_images/(\w+)\.png"', gallery) == re.findall(
        r"### (\w+)", (ROOT / "docs/gallery.md").read_text()
    )


def entries(site, module):
    """Each name that a page describes, with its signature, and whether a description follows."""
    text = (site / f"docs/reference/jnn.{module}.html").read_text(encoding="utf-8")
    for name, signature, after in re.findall(
        r'<dt class="sig sig-object py" id="jnn\.([\w.]+)">(.*?)</dt>\s*<dd>(.{0,10})', text, re.S
    ):
        links = r'<a class="headerlink.*?</a>|<span class="viewcode-link">.*?</span>'
        shown = html.unescape(re.sub(r"<[^>]+>", "", re.sub(links, "", signature)))
        yield name, shown, after.strip().startswith("<p")


@pytest.mark.parametrize("module", MODULES)
def test_the_reference_has_every_name_with_its_description_and_shapes(module, site):
    found = {name: (shown, said) for name, shown, said in entries(site, module)}
    expected = {name: said for name, _, said in PUBLIC if name.startswith(f"{module}.") and name not in FIELDS}
    assert not expected.keys() - found.keys()
    assert not {name for name in found if name.count(".") == 1} - expected.keys()
    assert not [name for name, said in expected.items() if said and not found[name][1]]
    for name, (shown, _) in found.items():
        if name in FUNCTIONS:
            named = [shape for annotation in annotations(FUNCTIONS[name]) for shape in shapes(annotation) if shape]
            assert not [shape for shape in named if f"'{shape}'" not in shown], shown
        assert not re.search(r"(?<![\w.])_[a-zA-Z]|jnn\.(\w+\.)*_|jaxtyping|\b_jax", shown), shown
    text = (site / f"docs/reference/jnn.{module}.html").read_text(encoding="utf-8")
    assert "Alias for field number" not in text
    summary = re.search(r'<table class="autosummary.*?</table>', text, re.S)[0]
    assert {name for name in found if name.count(".") == 1} == {
        f"{module}.{name}" for name in re.findall(r'<tr.*?title="jnn\.\w+\.(\w+)"', summary)
    }


def visited(browser, site, names=None, **options):
    """Every page of the site, or those that are named, each after its formulas are set."""
    page = browser.new_page(**options)
    paths = [site / name for name in names] if names else sorted(set(site.rglob("*.html")) - {site / "index.html"})
    for path in paths:
        page.goto(path.as_uri())
        yield path.relative_to(site).as_posix(), page
    page.close()


FORMULAS = r"""[...document.querySelectorAll(".math, math:not(.katex math)")].map(part => ({
    source: part.querySelector("annotation")?.textContent ?? part.textContent,
    shown: part.querySelector(".katex-html")?.innerText
        ?? (part.matches("math:not(:has(merror))") ? part.textContent : `\\ not set: ${part.textContent}`),
    red: [...part.querySelectorAll("*")].some(node => getComputedStyle(node).color === "rgb(204, 0, 0)"),
}))"""
RAW = r"""[...document.querySelectorAll("article p, article li, article td, article dd")]
    .map(part => [...part.childNodes].filter(node => node.nodeType === 3).map(node => node.data).join(""))
    .filter(text => /\$\$|\\[a-zA-Z([]|\$[^$ ]+\$/.test(text))"""
"""Prose that still has the markup of a formula."""


def test_in_a_browser_every_formula_is_set(site, browser):
    wrong, count = {}, 0
    for name, page in visited(browser, site):
        formulas = page.evaluate(FORMULAS)
        count += len(formulas)
        bad = [of["source"] for of in formulas if of["red"] or re.search(r"[&\\]", of["shown"])] + page.evaluate(RAW)
        if bad:
            wrong[name] = bad
    assert not wrong
    assert count > 500


CUT = r"""[...document.querySelectorAll("article :is(h1, h2, h3, h4, td, th)")].flatMap(part => {
    const cut = [], texts = document.createTreeWalker(part, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
        if (texts.currentNode.parentElement.closest(".katex, .headerlink")) continue;
        for (const word of texts.currentNode.data.matchAll(/[\p{L}\d]+/gu)) {
            const range = document.createRange();
            range.setStart(texts.currentNode, word.index);
            range.setEnd(texts.currentNode, word.index + word[0].length);
            if (new Set([...range.getClientRects()].map(box => box.top)).size > 1) cut.push(word[0]);
        }
    }
    return cut;
})"""
"""Words of titles and tables that continue in the next line."""


BEYOND = """[...document.querySelectorAll("article *")]
    .filter(part => part.getBoundingClientRect().right > innerWidth + 1)
    .filter(part => !part.closest("pre, .table-wrapper, .katex"))
    .map(part => part.outerHTML.slice(0, 80))"""
"""What is cut off at the right and does not scroll by itself."""


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_in_a_browser_every_page_fits_its_width(width, scheme, site, browser):
    asked, errors, wrong = [], [], {}
    for name, page in visited(browser, site, viewport={"width": width, "height": 800}, color_scheme=scheme):
        if not asked:
            page.on("request", lambda request: asked.append(request.url))
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.reload()
        if bad := page.evaluate(BEYOND) + page.evaluate(CUT):
            wrong[name] = bad
    assert not wrong
    assert not errors
    assert asked
    assert not [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_pages_are_accessible(width, scheme, site, browser):
    sync_playwright = pytest.importorskip("axe_playwright_python.sync_playwright")
    names = ("docs/index.html", "docs/reference/jnn.lstm.html", "docs/equations.html", "draw.html")
    for name, page in visited(browser, site, names, viewport={"width": width, "height": 800}, color_scheme=scheme):
        found = sync_playwright.Axe().run(page)
        assert not found.violations_count, f"{name}\n{found.generate_report()}"


def test_search_finds_functions_and_pages_and_shows_prose(site, browser):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=site)
    handler.log_message = lambda *words: None
    with http.server.ThreadingHTTPServer(("localhost", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = browser.new_page()
        searched = {"unroll": "lstm.unroll", "subprocess": "Chapter 1", "versions": "Reproducibility"}
        for words, expected in searched.items():
            page.goto(f"http://localhost:{server.server_port}/search.html?q={words}")
            page.wait_for_selector("#search-results .context")
            assert expected in page.inner_text("#search-results")
            assert not re.search(r"import |0 \(0\.", page.inner_text("#search-results"))
        page.close()
        server.shutdown()
