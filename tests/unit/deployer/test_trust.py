"""Trust policies for the roles of pipelines: one provider, one audience, one repository."""

from __future__ import annotations

import fnmatch
import json
import operator
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.deployer.rendering import render

BOTH = {"pipeline_github_repository": "team/dags", "pipeline_gitlab_project": "group/team/dags"}
GITHUB, GITLAB = "token.actions.githubusercontent.com", "gitlab.com"


def trust(**changes: Any) -> dict[str, list[dict[str, Any]]]:
    """Return the statements of each trust policy."""
    return render("__policy_trust", **changes)


def trusts(statements: list[dict[str, Any]], host: str, claims: dict[str, str]) -> bool:
    """Return whether AWS would give the role to a token with these claims, by "IAM JSON policy elements: Condition"."""
    (statement,) = statements
    compare: dict[str, Callable[[str, str], bool]] = {"StringEquals": operator.eq, "StringLike": fnmatch.fnmatchcase}
    assert set(statement["Condition"]) <= set(compare)
    return bool(statement["Principal"]["Federated"].endswith(f":oidc-provider/{host}")) and all(
        compare[kind](claims.get(key.removeprefix(f"{host}:"), ""), wanted)
        for kind, conditions in statement["Condition"].items()
        for key, wanted in conditions.items()
    )


def test_nothing_without_a_repository() -> None:
    assert trust() == {}
    assert trust(pipeline_github_repository="", pipeline_gitlab_project=None) == {}
    assert set(trust(pipeline_github_repository="team/dags")) == {"trust-github-deploy", "trust-github-plan"}


@pytest.mark.parametrize(("name", "statements"), trust(**BOTH).items())
def test_the_grammar_of_trust_policies(name: str, statements: list[dict[str, Any]]) -> None:
    """As "Configuring a role for GitHub OIDC identity provider" wants it: audience and subject, both named."""
    (statement,) = statements
    assert set(statement) == {"Sid", "Effect", "Principal", "Action", "Condition"}
    assert statement["Action"] == "sts:AssumeRoleWithWebIdentity"
    host = statement["Principal"]["Federated"].split("oidc-provider/")[1]
    keys = {key for conditions in statement["Condition"].values() for key in conditions}
    assert keys == {f"{host}:aud", f"{host}:sub"}
    # AWS's quota for a trust policy.
    assert len(json.dumps(statement)) < 2048
    subject = next(each[f"{host}:sub"] for each in statement["Condition"].values() if f"{host}:sub" in each)
    assert subject == subject.strip()
    assert BOTH["pipeline_github_repository" if host == GITHUB else "pipeline_gitlab_project"] in subject


@pytest.mark.parametrize(
    ("policy", "subject", "expected"),
    [
        ("trust-github-deploy", "repo:team/dags:environment:production", True),
        ("trust-github-deploy", "repo:team/dags:environment:staging", False),
        ("trust-github-deploy", "repo:team/dags:ref:refs/heads/main", False),
        ("trust-github-deploy", "repo:team/dags:pull_request", False),
        ("trust-github-deploy", "repo:mallory/dags:environment:production", False),
        ("trust-github-plan", "repo:team/dags:pull_request", True),
        ("trust-github-plan", "repo:team/dags-2:pull_request", False),
        ("trust-gitlab-deploy", "project_path:group/team/dags:ref_type:branch:ref:main", True),
        ("trust-gitlab-deploy", "project_path:group/team/dags:ref_type:branch:ref:topic", False),
        ("trust-gitlab-deploy", "project_path:group/team/dags:ref_type:tag:ref:main", False),
        ("trust-gitlab-plan", "project_path:group/team/dags:ref_type:branch:ref:topic", True),
        ("trust-gitlab-plan", "project_path:group/team/dags:ref_type:tag:ref:v1", False),
        ("trust-gitlab-plan", "project_path:group/other:ref_type:branch:ref:topic", False),
    ],
)
def test_who_gets_the_role(policy: str, subject: str, *, expected: bool) -> None:
    host = GITHUB if "github" in policy else GITLAB
    audience = "sts.amazonaws.com" if host == GITHUB else f"https://{host}"
    found = trust(**BOTH)[policy]
    assert trusts(found, host, {"aud": audience, "sub": subject}) is expected
    assert not trusts(found, host, {"aud": "another", "sub": subject})


def test_a_gitlab_of_ones_own_and_other_names() -> None:
    found = trust(**BOTH, pipeline_gitlab_host="git.example.com", pipeline_branch="live", pipeline_environment="live")
    assert trusts(
        found["trust-gitlab-deploy"],
        "git.example.com",
        {"aud": "https://git.example.com", "sub": "project_path:group/team/dags:ref_type:branch:ref:live"},
    )
    assert trusts(
        found["trust-github-deploy"], GITHUB, {"aud": "sts.amazonaws.com", "sub": "repo:team/dags:environment:live"}
    )
