"""`dag_source: tree` for real: a plain S3 client synchronizes, the container program follows."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable

import pytest

from tests.e2e.dagster_client import wait_for
from tests.e2e.platform_under_test import Probe
from tests.integration.faults.proxy import Answer
from tests.integration.release.gate import Gate, Hold
from tests.integration.release.support import ROOT, aws_environment
from tests.integration.tree.conftest import Rig, Served, Tree

AWS = ROOT / ".venv/bench/bin/aws"
NewRig = Callable[..., Rig]
LISTING = r"^/[^/]+/?$"
"""Path of a request that lists a bucket."""


def test_tree_comes_changes_and_goes(new_rig: NewRig) -> None:
    """An empty bucket; a first sync, an edit, a new package, one that goes, an empty bucket again."""
    rig = new_rig()
    tree = rig.tree
    task = rig.start("webserver")
    wait_for("waiting", lambda: task.health()[1].get("status"), until=lambda status: status == "waiting")
    wait_for("healthy while waiting", lambda: task.health()[0], until=lambda code: code == 200)

    tree.write("main", "one")
    (tree.tree / "main/data.txt").write_text("the same in every release", encoding="utf-8")
    first = tree.sync()
    task.wait_release(first)
    assert sorted(rig.fetched()) == ["__init__.py", "main/__init__.py", "main/data.txt"]

    tree.write("main", "another")
    second = tree.sync()
    task.wait_release(second)
    assert "main/data.txt" not in rig.fetched(), "what is unchanged is not fetched"
    data = [task.base / "releases" / release / "dags/main/data.txt" for release in (first, second)]
    assert data[0].stat().st_ino == data[1].stat().st_ino, "but linked"

    tree.write("extra", "more")
    task.wait_release(tree.sync())
    wait_for("the new location", lambda: set(task.ui.locations()), until=lambda found: found == {"main", "extra"})

    shutil.rmtree(tree.tree / "extra")
    assert tree.sync() == second, "the same tree is the same release"
    task.wait_release(second)
    wait_for("the location to go", lambda: set(task.ui.locations()), until=lambda found: found == {"main"})

    tree.clear()
    body = wait_for("the reason", lambda: task.health()[1], until=lambda body: body["error"])
    assert "no file in the tree any more" in body["error"]
    assert (task.health()[0], body["release"]) == (200, second)
    assert task.ui.assets("main") == {"another"}
    assert not any("releases/current" in request.path for request in rig.proxy.requests)


def begin_aws_sync(tree: Tree, endpoint: str) -> subprocess.Popen[str]:
    """Start the command that teams run."""
    return subprocess.Popen(
        [AWS, "s3", "sync", tree.tree, f"s3://{tree.name}/dags/", "--delete", "--no-progress"],
        env=aws_environment(endpoint) | {"PATH": os.environ["PATH"]},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def aws_sync(tree: Tree) -> str:
    """Run that command and return the id that the tree has."""
    with begin_aws_sync(tree, tree.endpoint) as client:
        output, _ = client.communicate()
    assert client.returncode == 0, output
    return tree.release()


@pytest.mark.skipif(not AWS.exists(), reason="there is no AWS CLI: local/bootstrap.sh bench")
def test_aws_cli(new_rig: NewRig) -> None:
    """`aws s3 sync --delete` itself: a first tree, an edit with a package that goes, one that is killed half-way."""
    rig = new_rig()
    tree = rig.tree
    tree.write("main", "one")
    tree.write("extra", "more")
    first = aws_sync(tree)
    task = rig.start("webserver")
    task.wait_release(first)
    wait_for("both locations", lambda: set(task.ui.locations()), until=lambda found: found == {"main", "extra"})
    wait_for("the assets", lambda: task.ui.assets("main"), until=lambda found: found == {"one"})
    with Probe(task.ui, "main") as probe:
        tree.write("main", "another")
        shutil.rmtree(tree.tree / "extra")
        second = aws_sync(tree)
        task.wait_release(second)
        wait_for("the location to go", lambda: set(task.ui.locations()), until=lambda found: found == {"main"})

        (tree.tree / "main/helper.py").write_text("VALUE = 1\n", encoding="utf-8")
        tree.write("main", "complete", extra="from .helper import VALUE")
        with contextlib.closing(Gate(tree.endpoint)) as gate, gate.holding(Hold("PUT", "helper")) as hold:
            client = begin_aws_sync(tree, gate.url)
            hold.wait()
            wait_for("the other file", lambda: [r for r in gate.requests if r.path.endswith("main/__init__.py")])
            client.kill()
            client.communicate()
        body = wait_for("the refusal", lambda: task.health()[1], until=lambda body: body["status"] == "rejected")
        assert (task.health()[0], body["release"]) == (200, second)
        assert "No module named 'dags.main.helper'" in body["error"]
        assert task.ui.assets("main") == {"another"}
        task.wait_release(aws_sync(tree))
        wait_for("the assets", lambda: task.ui.assets("main"), until=lambda found: found == {"complete"})
    assert probe.asked > 0
    assert probe.failures == []


def test_half_of_an_upload_that_does_not_import_never_goes_live(served: Served) -> None:
    """The module is there, what it imports is not yet: refused once, not again and again, and taken when complete."""
    tree, task = served.tree, served.task
    before = task.health()[1]["release"]
    (tree.tree / "main/helper.py").write_text("VALUE = 1\n", encoding="utf-8")
    tree.write("main", "complete", extra="from .helper import VALUE")
    tree.upload("main/__init__.py")
    body = wait_for("the refusal", lambda: task.health()[1], until=lambda body: body["status"] == "rejected")
    assert (task.health()[0], body["release"]) == (200, before)
    assert "No module named 'dags.main.helper'" in body["error"]
    rejections = body["canary_rejections"]
    served.rig.wait_polls()
    assert task.health()[1]["canary_rejections"] == rejections

    tree.upload("main/helper.py")
    task.wait_release(tree.release())
    served.wait_assets({"complete"})
    assert task.health()[1]["error"] is None
    served.check_probe()


def test_upload_under_way_is_not_acted_upon(served: Served) -> None:
    """Between two polls something always changes; then it comes to rest."""
    tree, task, proxy = served.tree, served.task, served.rig.proxy
    before = task.health()[1]["release"]
    targets = {state["target"] for state in task.states()}
    tree.write("main", "calm")
    numbers = iter(range(1, 1000))

    def upload_one_more(answer: Answer) -> Answer:
        name = f"main/part_{next(numbers)}.py"
        (tree.tree / name).write_text("PART = True\n", encoding="utf-8")
        tree.upload(name)
        return answer

    served.rig.fetched()
    with proxy.fault(upload_one_more, LISTING):
        tree.upload("main/__init__.py")
        served.rig.wait_polls(6)
        assert served.rig.fetched() == []
        assert {state["target"] for state in task.states()} == targets
        assert task.health()[1]["release"] == before
    task.wait_release(tree.sync())
    served.wait_assets({"calm"})
    served.check_probe()


def test_object_that_is_replaced_between_listing_and_fetch(served: Served) -> None:
    """S3 answers 412 for one and 404 for the other: that is no error, only a tree that is being changed."""
    tree, task, proxy = served.tree, served.task, served.rig.proxy
    failures = task.health()[1]["sync_failures"]
    last: list[bytes] = [b""]

    def change_after_two_equal_listings(answer: Answer) -> Answer:
        if answer.body == last[0] and b"doomed.py" in answer.body:
            tree.write("main", "newer")
            tree.upload("main/__init__.py")
            tree.s3.delete_object(Bucket=tree.name, Key="dags/main/doomed.py")
        last[0] = answer.body
        return answer

    served.rig.fetched()
    with proxy.fault(change_after_two_equal_listings, LISTING):
        tree.write("main", "never_to_be_seen")
        (tree.tree / "main/doomed.py").write_text("DOOMED = True\n", encoding="utf-8")
        never = tree.release()
        tree.upload("main/__init__.py", "main/doomed.py")
        (tree.tree / "main/doomed.py").unlink()
        served.wait_assets({"newer"})
    statuses = {request.status for request in proxy.requests if "/dags/" in request.path}
    assert statuses & {404, 412}
    assert task.health()[1]["release"] == tree.release()
    assert task.health()[1]["sync_failures"] == failures
    assert never not in {state["target"] for state in task.states()}
    served.check_probe()


def test_what_is_no_code_is_left_out(served: Served) -> None:
    tree, task = served.tree, served.task
    tree.write("main", "clean")
    expected = tree.sync()
    for name in (".git/config", "main/__pycache__/x.py", "main/x.pyc", "main/.env", "main/x.py~", "main/x.swp"):
        tree.s3.put_object(Bucket=tree.name, Key=f"dags/{name}", Body=b"raise RuntimeError")
    tree.s3.put_object(Bucket=tree.name, Key="dags/", Body=b"")
    tree.s3.put_object(Bucket=tree.name, Key="dags/main/", Body=b"")
    task.wait_release(expected)
    served.wait_assets({"clean"})
    files = [path for path in (task.base / "releases" / expected / "dags").rglob("*") if path.is_file()]
    assert len(files) == len([path for path in tree.tree.rglob("*") if path.is_file()])
    served.check_probe()


def test_tree_that_cannot_be_a_release_is_refused_with_the_reason(served: Served) -> None:
    tree, task = served.tree, served.task
    tree.write("main", "last_good")
    good = tree.sync()
    task.wait_release(good)
    refusals = {
        "main/huge.bin": "'main/huge.bin' has 33554433 bytes, at most 33554432 are allowed",
        "my-package/__init__.py": "'my-package' is not a Python identifier",
        "main//twice.py": "empty path segment",
    }
    for name, reason in refusals.items():
        body = b"0" * 33554433 if name.endswith(".bin") else b""
        tree.s3.put_object(Bucket=tree.name, Key=f"dags/{name}", Body=body)
        seen = wait_for(name, lambda: task.health()[1], until=lambda seen: seen["status"] == "rejected")
        assert reason in seen["error"]
        assert f"s3://{tree.name}/dags/" in seen["error"]
        assert (task.health()[0], seen["release"]) == (200, good)
        tree.s3.delete_object(Bucket=tree.name, Key=f"dags/{name}")
        task.wait_release(good)
        assert task.health()[1]["error"] is None
    served.check_probe()


def test_replaced_task_serves_the_last_good_release_while_the_tree_is_broken(new_rig: NewRig) -> None:
    """On a new disk or its own, whether the tree is at rest or in the middle of an upload."""
    rig = new_rig()
    tree = rig.tree
    tree.write("main", "good")
    good = tree.sync()
    task = rig.start("daemon")
    task.wait_release(good)
    assert task.stop() == 0
    tree.write("main", "bad", extra="raise RuntimeError('on purpose')")
    broken = tree.sync()

    new_disk = rig.start("webserver")
    body = wait_for("the fall-back", lambda: new_disk.health()[1], until=lambda body: body.get("release") == good)
    assert body["rejected"] == broken
    assert "on purpose" in body["error"]
    wait_for("health", lambda: new_disk.health()[0], until=lambda code: code == 200)
    wait_for("the UI", lambda: new_disk.ui.assets("main"), until=lambda found: found == {"good"})

    def go_on(answer: Answer) -> Answer:
        tree.s3.put_object(Bucket=tree.name, Key="dags/main/busy.txt", Body=str(len(rig.proxy.requests)).encode())
        return answer

    rig.fetched()
    with rig.proxy.fault(go_on, LISTING):
        same_disk = rig.start("daemon", task.base)
        wait_for("the last good one", lambda: same_disk.health()[1].get("release"), until=lambda found: found == good)
        wait_for("health", lambda: same_disk.health()[0], until=lambda code: code == 200)
    tree.write("main", "better")
    better = tree.sync()
    for each in (new_disk, same_disk):
        each.wait_release(better)
    assert "__init__.py" not in rig.fetched(), "what is on the disk is not fetched again"


def test_first_tree_is_broken_in_a_bucket_without_versions(new_rig: NewRig) -> None:
    """As with a first release that does not load: an empty UI, healthy, and the reason."""
    rig = new_rig(versioning=False)
    tree = rig.tree
    tree.write("main", "bad", extra="raise RuntimeError('on purpose')")
    broken = tree.sync()
    task = rig.start("daemon")
    body = wait_for("the refusal", lambda: task.health()[1], until=lambda body: body.get("rejected") == broken)
    assert body["release"] is None
    assert "on purpose" in body["error"]
    wait_for("health", lambda: task.health()[0], until=lambda code: code == 200)
    tree.write("main", "better")
    task.wait_release(tree.sync())


def test_queued_run_executes_the_tree_that_it_was_created_from(served: Served) -> None:
    """The daemon that launches it has never seen that tree."""
    tree, webserver = served.tree, served.task
    tree.write("main", "result", version="one")
    webserver.wait_release(tree.sync())
    served.wait_assets({"result"})
    run = webserver.ui.launch("main", assets=["result"])
    tree.write("main", "result", version="number two")
    second = tree.sync()
    webserver.wait_release(second)
    daemon = served.rig.start("daemon")
    assert webserver.ui.wait_run(run) == "SUCCESS"
    assert daemon.health()[1]["release"] == second
    assert webserver.ui.materialization_texts(run) == {"result.version": "one"}
    served.check_probe()
