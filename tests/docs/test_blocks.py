"""Every fenced block of the README and docs/ is run, or read by who it is for: one that nobody handles fails."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from tests.docs.fenced import PAGES, Block, blocks, name_of
from tests.promtool import needs_promtool, run_promtool
from tests.python_process import ROOT, run_python, start_python

import loopscope
from loopscope.catalog import METRICS

RUNNER = Path(__file__).with_name("python_blocks.py")
HANDLED = {"python", "bash", "sh", "json", "yaml", "toml", "promql"}
NOT_RUN = {"text", "console"}
"""Output; and what needs Docker, a cluster or a long time."""


@pytest.mark.parametrize("block", blocks(), ids=str)
def test_somebody_handles_it(block: Block) -> None:
    """Its language is one of those below (bash and sh: test_commands.py), or one that is not run."""
    assert block.language in HANDLED | NOT_RUN


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[set[str], str]:
    """The places of the blocks of Python that ran, and all that was said."""
    path = tmp_path_factory.mktemp("python") / "blocks.json"
    path.write_text(json.dumps([[name_of(block.page), block.line, block.text] for block in blocks("python")]))
    with start_python("-W", "error", str(RUNNER), str(path), cwd=path.parent) as process:
        said, _ = process.communicate(timeout=250)
    return set(re.findall(r"^(\S+) ran$", said, re.MULTILINE)), said


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_runs(block: Block, ran: tuple[set[str], str]) -> None:
    """It runs without a warning; what it attached sees the steps that follow, and has no fault."""
    places, said = ran

    assert str(block) in places, said


def test_python_that_fails_is_found(tmp_path: Path) -> None:
    """A setting, a name or a claim that is wrong is told with page and line, and the others run all the same."""
    texts = ["loopscope.attach(model, optimizer, prot=1)", "agent.log()", "assert model is None", "pass"]
    path = tmp_path / "blocks.json"
    path.write_text(json.dumps([["docs/page.md", 10 * number, text] for number, text in enumerate(texts, start=1)]))

    done = run_python(str(RUNNER), str(path), cwd=tmp_path, status=1)

    assert re.findall(r'File "docs/page.md", line (\d+)', done.stderr) == ["10", "20", "30"]
    assert done.stdout == "docs/page.md:40 ran\n"


@pytest.mark.parametrize("block", blocks("json"), ids=str)
def test_json_can_be_read(block: Block) -> None:
    """Each line is an object."""
    assert all(isinstance(json.loads(line), dict) for line in block.text.splitlines())


@pytest.mark.parametrize("block", blocks("toml"), ids=str)
def test_toml_can_be_read(block: Block) -> None:
    """It is a table that says something."""
    assert tomllib.loads(block.text)


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_yaml_can_be_read(block: Block) -> None:
    """Each document is a mapping that says something."""
    documents = list(yaml.safe_load_all(block.text))

    assert all(isinstance(document, dict) and document for document in documents)


@needs_promtool
@pytest.mark.parametrize("block", [each for each in blocks("yaml") if "scrape_configs" in each.text], ids=str)
def test_prometheus_takes_its_configuration(block: Block, tmp_path: Path) -> None:
    """Beside the files that it names, promtool finds nothing wrong with it."""
    (tmp_path / "prometheus.yml").write_text(block.text)
    for name in yaml.safe_load(block.text).get("rule_files", ()):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / "dashboards" / "rendered" / "rules.yaml").read_bytes())

    done = run_promtool("check", "config", str(tmp_path / "prometheus.yml"))

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("block", [each for each in blocks("yaml") if "static_configs" in each.text], ids=str)
def test_targets_are_where_agents_are_by_default(block: Block) -> None:
    """A target on loopback is an agent with default settings, or Prometheus's own companions."""
    config = loopscope.Config()
    named = re.findall(r'"127\.0\.0\.1:(\d+)"', block.text)

    assert named
    assert set(named) <= {str(config.port), "9090", "9093"}


@needs_promtool
@pytest.mark.parametrize("block", blocks("promql"), ids=str)
def test_promql_is_a_query(block: Block, tmp_path: Path) -> None:
    """Prometheus parses it."""
    path = tmp_path / "rules.yaml"
    path.write_text(json.dumps({"groups": [{"name": "docs", "rules": [{"record": "docs", "expr": block.text}]}]}))

    done = run_promtool("check", "rules", str(path))

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_series_exist(page: Path) -> None:
    """Every metric is one of the catalog, and every recorded series one of our rules."""
    text = page.read_text()
    ends = {metric: ("_bucket", "_sum", "_count") if metric.buckets else () for metric in METRICS}
    known = {metric.prometheus_name + end for metric in METRICS for end in ("", *ends[metric])}
    rules = yaml.safe_load((ROOT / "dashboards" / "rendered" / "rules.yaml").read_text())
    recorded = {rule["record"] for group in rules["groups"] for rule in group["rules"] if "record" in rule}

    named = set(re.findall(r"(?<![\w:/.-])loopscope_(?!exporters|dashboards)[a-z0-9_]+\b(?![*./:])", text))
    assert named - known == set()
    assert set(re.findall(r"\binstance_agent\w*:\w+:\w+", text)) - recorded == set()
