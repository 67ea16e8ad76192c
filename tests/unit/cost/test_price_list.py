"""The refresh of the prices, against handmade answers in the form that the Price List API documents; never AWS."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from botocore.stub import Stubber

from module_utils.aws_price_list import FIXED, KEPT, ORIGIN, Query, amounts, differences, fetch, queries, rewritten
from module_utils.aws_prices import FILE

TEXT = FILE.read_text(encoding="utf-8")
CONTENT = yaml.safe_load(TEXT)
US: dict[str, Any] = CONTENT["regions"]["us-east-1"]
SESSION: Any = boto3


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], float]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    else:
        yield path, value


def product(usage: str, *prices: float, unit: str = "Hrs", **attributes: str) -> str:
    """Return a product as in the documentation of GetProducts; several prices are steps of the amount."""
    steps = {
        f"SKU.JRTCKXETXF.{number}": {
            "unit": unit,
            "beginRange": str(number * 10240),
            "endRange": str((number + 1) * 10240) if number + 1 < len(prices) else "Inf",
            "description": f"${price} per {unit}",
            "appliesTo": [],
            "rateCode": f"SKU.JRTCKXETXF.{number}",
            "pricePerUnit": {"USD": f"{price:.10f}"},
        }
        for number, price in enumerate(prices)
    }
    return json.dumps(
        {
            "product": {"productFamily": "x", "sku": "SKU", "attributes": {"usagetype": usage, **attributes}},
            "serviceCode": "x",
            "terms": {
                "OnDemand": {"SKU.JRTCKXETXF": {"priceDimensions": steps, "sku": "SKU", "offerTermCode": "JRTCKXETXF"}},
                "Reserved": {"SKU.4NA7Y494T4": {"priceDimensions": {"r": {"pricePerUnit": {"USD": "0.0001"}}}}},
            },
            "version": "20261120000000",
            "publicationDate": "2026-11-20T00:00:00Z",
        }
    )


def usage_of(query: Query) -> str:
    """Return a usage type that the query means."""
    return re.sub(r"\\(.)", r"\1", re.sub(r"([A-Za-z-])\?", r"\1", query.usage))


def answer(query: Query, price: float, prefix: str = "") -> list[str]:
    """Return products for a query: what is meant, and what other tools have to tell from it."""
    return [
        product(f"{prefix}Reserved{usage_of(query)}", 99),
        product(f"{prefix}{usage_of(query)}", 0, price / query.per, price / query.per / 2),
        product(f"{prefix}{usage_of(query)}-Extra", 98),
    ]


def by_request(
    region: str, form: dict[str, Any], answers: dict[tuple[str, ...], list[str]]
) -> list[tuple[dict[str, Any], list[str]]]:
    """Return each request and its products; some prices are asked for with the same one."""
    found: dict[str, list[str]] = {}
    for query in queries(form):
        found.setdefault(json.dumps(query.request(region)), []).extend(answers[query.path])
    return [(json.loads(request), products) for request, products in found.items()]


def stubbed(region: str, form: dict[str, Any], answers: dict[tuple[str, ...], list[str]]) -> Any:
    """Return a client of the API that answers in two pages, and refuses whatever else it is asked."""
    client = SESSION.client("pricing", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    stub = Stubber(client)
    for request, products in by_request(region, form, answers):
        stub.add_response("get_products", {"PriceList": products[:1], "NextToken": "more"}, request)
        stub.add_response("get_products", {"PriceList": products[1:]}, {**request, "NextToken": "more"})
    stub.activate()
    return client


def every_answer(form: dict[str, Any], prefix: str = "", factor: float = 1.0) -> dict[tuple[str, ...], list[str]]:
    known = dict(leaves(form))
    return {query.path: answer(query, known[query.path] * factor, prefix) for query in queries(form)}


def test_every_price_of_the_file_is_asked_for_or_kept_on_purpose() -> None:
    asked = [query.path for query in queries(US)]
    assert len(asked) == len(set(asked))
    assert sorted(dict(leaves(US)).keys() - set(asked) - set(KEPT)) == []
    assert sorted({*asked, *KEPT} - dict(leaves(US)).keys()) == []


def test_the_same_prices_change_nothing_but_date_and_origin() -> None:
    found, problems = fetch(stubbed("us-east-1", US, every_answer(US)), "us-east-1", US)
    assert problems == []
    assert differences(US, found) == {}
    new = rewritten(TEXT, "2027-01-31", ORIGIN, {"us-east-1": found})
    changed = [(old, line) for old, line in zip(TEXT.splitlines(), new.splitlines(), strict=True) if old != line]
    assert [line for _, line in changed] == ['date: "2027-01-31"', f'origin: "{ORIGIN}"']


def test_another_price_is_written_in_its_place() -> None:
    answers = every_answer(US)
    (alarm,) = [query for query in FIXED if query.path == ("cloudwatch", "alarm_month")]
    answers[alarm.path] = answer(alarm, 0.12)
    found, problems = fetch(stubbed("us-east-1", US, answers), "us-east-1", US)
    assert problems == []
    assert differences(US, found) == {"cloudwatch.alarm_month": [0.10, 0.12]}
    new = rewritten(TEXT, str(CONTENT["date"]), CONTENT["origin"], {"us-east-1": found})
    (old, line) = next(
        (old, line) for old, line in zip(TEXT.splitlines(), new.splitlines(), strict=True) if old != line
    )
    assert old.replace("alarm_month: 0.10", "alarm_month: 0.12") == line
    assert yaml.safe_load(new)["regions"]["us-east-1"] == found


def test_a_new_region_has_the_same_entries() -> None:
    """Its usage types begin with a prefix of the region."""
    found, problems = fetch(stubbed("eu-central-1", US, every_answer(US, "EUC1-", 1.2)), "eu-central-1", US)
    assert problems == []
    new = rewritten(TEXT, "2027-01-31", ORIGIN, {**CONTENT["regions"], "eu-central-1": found})
    written = yaml.safe_load(new)["regions"]
    assert list(written) == ["us-east-1", "eu-central-1"]
    assert written["us-east-1"] == US
    assert written["eu-central-1"]["public_ipv4"]["hour"] == pytest.approx(0.006)
    assert dict(leaves(written["eu-central-1"])).keys() == dict(leaves(US)).keys()
    assert written["eu-central-1"]["fargate"]["spot_share"] == US["fargate"]["spot_share"]
    # It can be brought up to date as any other.
    again = rewritten(new, "2027-02-28", ORIGIN, yaml.safe_load(new)["regions"])
    assert yaml.safe_load(again)["regions"] == written


def test_what_is_missing_or_found_twice_is_told() -> None:
    answers = every_answer(US)
    answers["nat_gateway", "hour"] = [product("NatGateway-Bytes", 0.045)]
    answers["public_ipv4", "hour"] = [
        product(f"{prefix}PublicIPv4:InUseAddress", price) for prefix, price in (("", 0.005), ("USE1-", 0.006))
    ]
    _, problems = fetch(stubbed("us-east-1", US, answers), "us-east-1", US)
    assert len(problems) == 2
    assert problems[0].startswith(
        "public_ipv4.hour: 2 different prices: [0.005, 0.006] (AmazonVPC, regionCode=us-east-1"
    )
    assert problems[1].startswith("nat_gateway.hour: no price among 4 products (AmazonEC2, regionCode=us-east-1")


def test_prices_on_demand_of_the_first_charged_units_count() -> None:
    query = Query(("x",), "S", "Requests-Tier2", per=1_000)
    assert amounts(query, [product("EUC1-Requests-Tier2", 0.0, 0.0000004, 0.0000003)]) == {0.0004}
    assert amounts(query, [product("Requests-Tier2", 0.0)]) == set()
    assert amounts(query, [product("Requests-Tier25", 1.0)]) == set()


def test_the_playbook_names_a_file_that_is_there_and_the_file_its_origin() -> None:
    play = (Path(__file__).resolve().parents[3] / "playbooks" / "refresh_prices.yml").read_text(encoding="utf-8")
    assert "plugins/module_utils/aws_prices.yml" in play
    assert CONTENT["origin"]
