"""Each defect of moto that we repair, shown on an unpatched moto, and its repair.

A test of the first kind fails when upstream has repaired the defect: then remove the fix and both of its tests.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

from local.emulator_iam import enforce

ROOT = Path(__file__).parents[3]
BUCKET = "lab"

# Serves on a free port. `meet` makes two PutObject requests meet between the check of their condition and the storing.
SERVER = """
import sys, threading
from werkzeug.serving import make_server
if "patched" in sys.argv:
    from local.emulator_fixes import apply_all
    apply_all()
if "meet" in sys.argv:
    from moto.s3.models import S3Backend
    store, barrier = S3Backend.put_object, threading.Barrier(2)
    def put_object(*args, **kwargs):
        try:
            barrier.wait(timeout=3)
        except threading.BrokenBarrierError:
            pass
        return store(*args, **kwargs)
    S3Backend.put_object = put_object
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True)
print(f"port {server.server_address[1]}", flush=True)
server.serve_forever()
"""


@contextmanager
def moto(*modes: str) -> Iterator[Any]:
    """Run a moto server, patched or not; yield a client of its S3 with one bucket."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, *modes],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
        env=environment,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            match = re.fullmatch(r"port (\d+)\n", line)
            assert match, f"the server did not start: {line!r}"
            s3 = boto3.client(
                "s3",
                region_name="us-east-1",
                endpoint_url=f"http://127.0.0.1:{match[1]}",
                aws_access_key_id="test",
                aws_secret_access_key="test",
                config=Config(retries={"max_attempts": 0}),
            )
            s3.create_bucket(Bucket=BUCKET)
            yield s3
        finally:
            process.terminate()


def code(error: ClientError) -> str:
    return str(error.response["Error"]["Code"])


def tls_only(effect_value: str = "false") -> str:
    statement = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [f"arn:aws:s3:::{BUCKET}", f"arn:aws:s3:::{BUCKET}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": effect_value}},
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def test_moto_denies_everything_by_a_policy_against_plain_http() -> None:
    with moto() as s3:
        s3.put_bucket_policy(Bucket=BUCKET, Policy=tls_only())
        with pytest.raises(ClientError) as error:
            s3.put_object(Bucket=BUCKET, Key="a", Body=b"1")
    assert code(error.value) in ("403", "AccessDenied")


def test_fix_lets_tls_requests_through_and_keeps_other_denials() -> None:
    with moto("patched") as s3:
        s3.put_bucket_policy(Bucket=BUCKET, Policy=tls_only())
        s3.put_object(Bucket=BUCKET, Key="a", Body=b"1")
        assert s3.get_object(Bucket=BUCKET, Key="a")["Body"].read() == b"1"
        assert json.loads(s3.get_bucket_policy(Bucket=BUCKET)["Policy"]) == json.loads(tls_only())
        # A statement whose condition is met applies.
        s3.put_bucket_policy(Bucket=BUCKET, Policy=tls_only("true"))
        with pytest.raises(ClientError) as error:
            s3.get_object(Bucket=BUCKET, Key="a")
        assert code(error.value) in ("403", "AccessDenied")
        # And so does one without a condition.
        unconditional = json.loads(tls_only())
        del unconditional["Statement"][0]["Condition"]
        s3.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps(unconditional))
        with pytest.raises(ClientError) as error:
            s3.get_object(Bucket=BUCKET, Key="a")
        assert code(error.value) in ("403", "AccessDenied")


def race(s3: Any, **condition: str) -> list[str]:
    """Put the same key twice at the same time; return both outcomes."""

    def put(body: bytes) -> str:
        try:
            s3.put_object(Bucket=BUCKET, Key="pointer", Body=body, **condition)
        except ClientError as error:
            return code(error)
        return "stored"

    with ThreadPoolExecutor(2) as pool:
        return sorted(pool.map(put, [b"first", b"second"]))


def test_moto_lets_two_writers_win() -> None:
    with moto("meet") as s3:
        assert race(s3, IfNoneMatch="*") == ["stored", "stored"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_fix_lets_one_writer_win(overwrite: bool) -> None:
    with moto("patched", "meet") as s3:
        condition = {"IfNoneMatch": "*"}
        if overwrite:
            condition = {"IfMatch": s3.put_object(Bucket=BUCKET, Key="pointer", Body=b"zero")["ETag"]}
        assert race(s3, **condition) == ["PreconditionFailed", "stored"]


def expiration(s3: Any) -> dict[str, Any]:
    """Put a rule that keeps newer versions, and return what comes back of it."""
    rule = {"ID": "old", "Status": "Enabled", "Filter": {"Prefix": ""}}
    asked = {"NoncurrentDays": 30, "NewerNoncurrentVersions": 40}
    other = {"ID": "logs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 3}}
    rules = [{**rule, "NoncurrentVersionExpiration": asked}, other]
    s3.put_bucket_lifecycle_configuration(Bucket=BUCKET, LifecycleConfiguration={"Rules": rules})
    first, second = s3.get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"]
    assert "NoncurrentVersionExpiration" not in second
    found: dict[str, Any] = first["NoncurrentVersionExpiration"]
    return found


def test_moto_drops_newer_noncurrent_versions() -> None:
    with moto() as s3:
        assert expiration(s3) == {"NoncurrentDays": 30}


def test_fix_keeps_newer_noncurrent_versions() -> None:
    with moto("patched") as s3:
        assert expiration(s3) == {"NoncurrentDays": 30, "NewerNoncurrentVersions": 40}


def client(s3: Any, service: str, keys: tuple[str, str] = ("test", "test")) -> Any:
    """Return a client of a service of the same server."""
    session: Any = boto3
    return session.client(
        service,
        region_name="us-east-1",
        endpoint_url=s3.meta.endpoint_url,
        aws_access_key_id=keys[0],
        aws_secret_access_key=keys[1],
        config=Config(retries={"max_attempts": 0}),
    )


def scaled(s3: Any) -> Any:
    """Return a client of autoscaling, with an ECS service to scale."""
    ecs, scaling = client(s3, "ecs"), client(s3, "application-autoscaling")
    ecs.create_cluster(clusterName="lab")
    ecs.register_task_definition(family="lab", containerDefinitions=[{"name": "a", "image": "b", "memory": 1}])
    ecs.create_service(cluster="lab", serviceName="web", taskDefinition="lab", desiredCount=1)
    return scaling


TARGET = {
    "ServiceNamespace": "ecs",
    "ResourceId": "service/lab/web",
    "ScalableDimension": "ecs:service:DesiredCount",
    "MinCapacity": 1,
    "MaxCapacity": 2,
}


def test_moto_knows_no_tags_of_scalable_targets() -> None:
    with moto() as s3:
        scaling = scaled(s3)
        arn = scaling.register_scalable_target(**TARGET, Tags={"owner": "me"})["ScalableTargetARN"]
        with pytest.raises(ClientError):
            scaling.list_tags_for_resource(ResourceARN=arn)


def test_fix_keeps_tags_of_scalable_targets() -> None:
    with moto("patched") as s3:
        scaling = scaled(s3)
        arn = scaling.register_scalable_target(**TARGET, Tags={"owner": "me"})["ScalableTargetARN"]
        scaling.register_scalable_target(**{**TARGET, "MaxCapacity": 3})
        scaling.tag_resource(ResourceARN=arn, Tags={"team": "data"})
        assert scaling.list_tags_for_resource(ResourceARN=arn)["Tags"] == {"owner": "me", "team": "data"}
        with pytest.raises(ClientError) as error:
            scaling.list_tags_for_resource(ResourceARN=f"{arn}x")
        assert code(error.value) == "ResourceNotFoundException"


def instance(ec2: Any, **settings: Any) -> str:
    image = ec2.describe_images()["Images"][0]["ImageId"]
    made = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, **settings)
    return str(made["Instances"][0]["InstanceId"])


def interface_tags(ec2: Any) -> list[dict[str, str]]:
    """Make an instance whose network interface is to be tagged, and return the tags that it got."""
    wanted = {"ResourceType": "network-interface", "Tags": [{"Key": "owner", "Value": "me"}]}
    found = instance(ec2, TagSpecifications=[wanted])
    filters = [{"Name": "attachment.instance-id", "Values": [found]}]
    (interface,) = ec2.describe_network_interfaces(Filters=filters)["NetworkInterfaces"]
    tags: list[dict[str, str]] = interface["TagSet"]
    return tags


def test_moto_does_not_tag_interfaces_of_new_instances() -> None:
    with moto() as s3:
        assert interface_tags(client(s3, "ec2")) == []


def test_fix_tags_interfaces_of_new_instances() -> None:
    with moto("patched") as s3:
        assert interface_tags(client(s3, "ec2")) == [{"Key": "owner", "Value": "me"}]


def interfaces_after_a_gateway(ec2: Any) -> list[Any]:
    """Make a NAT gateway, delete it, and return the network interfaces that are there afterwards."""
    subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    address = ec2.allocate_address(Domain="vpc")["AllocationId"]
    gateway = ec2.create_nat_gateway(SubnetId=subnet, AllocationId=address)["NatGateway"]["NatGatewayId"]
    assert len(ec2.describe_network_interfaces()["NetworkInterfaces"]) == 1
    ec2.delete_nat_gateway(NatGatewayId=gateway)
    return list(ec2.describe_network_interfaces()["NetworkInterfaces"])


def test_moto_leaves_interfaces_of_deleted_gateways() -> None:
    with moto() as s3:
        assert len(interfaces_after_a_gateway(client(s3, "ec2"))) == 1


def test_fix_removes_interfaces_of_deleted_gateways() -> None:
    with moto("patched") as s3:
        assert interfaces_after_a_gateway(client(s3, "ec2")) == []


def credits_afterwards(ec2: Any) -> list[str]:
    """Change the credits of one of two instances, and return what comes back of both."""
    ids = [instance(ec2), instance(ec2)]
    ec2.modify_instance_credit_specification(
        InstanceCreditSpecifications=[{"InstanceId": ids[0], "CpuCredits": "unlimited"}]
    )
    found = ec2.describe_instance_credit_specifications(InstanceIds=ids)["InstanceCreditSpecifications"]
    return sorted(item["CpuCredits"] for item in found)


def test_moto_cannot_change_cpu_credits() -> None:
    # It breaks off with a page of HTML.
    with moto() as s3, pytest.raises(ResponseParserError):
        credits_afterwards(client(s3, "ec2"))


def test_fix_changes_cpu_credits() -> None:
    with moto("patched") as s3:
        assert credits_afterwards(client(s3, "ec2")) == ["standard", "unlimited"]


def elastic(efs: Any) -> str:
    """Make a file system, change its throughput, and return how the change is described afterwards."""
    system = efs.create_file_system(CreationToken="lab")["FileSystemId"]
    efs.update_file_system(FileSystemId=system, ThroughputMode="elastic")
    return str(efs.describe_file_systems()["FileSystems"][0]["ThroughputMode"])


def test_moto_cannot_change_throughput() -> None:
    with moto() as s3, pytest.raises(ClientError):
        elastic(client(s3, "efs"))


def test_fix_changes_throughput() -> None:
    with moto("patched") as s3:
        assert elastic(client(s3, "efs")) == "elastic"


def changed_subnet_groups(s3: Any) -> list[str]:
    """Make a subnet group, change its description, and return the descriptions that are there afterwards."""
    rds = client(s3, "rds")
    subnets = [item["SubnetId"] for item in client(s3, "ec2").describe_subnets()["Subnets"]][:2]
    rds.create_db_subnet_group(DBSubnetGroupName="lab", DBSubnetGroupDescription="old", SubnetIds=subnets)
    rds.modify_db_subnet_group(DBSubnetGroupName="lab", DBSubnetGroupDescription="new", SubnetIds=subnets)
    return [group["DBSubnetGroupDescription"] for group in rds.describe_db_subnet_groups()["DBSubnetGroups"]]


def test_moto_loses_changed_subnet_groups() -> None:
    with moto() as s3:
        assert changed_subnet_groups(s3) == []


def test_fix_keeps_changed_subnet_groups() -> None:
    with moto("patched") as s3:
        assert changed_subnet_groups(s3) == ["new"]


def labelled(s3: Any) -> tuple[Any, str]:
    """Return a client and the id of a secret's second version, to which AWSCURRENT has been moved."""
    secrets = client(s3, "secretsmanager")
    first = secrets.create_secret(Name="lab", SecretString="first")["VersionId"]
    second = secrets.put_secret_value(SecretId="lab", SecretString="second", VersionStages=["AWSPENDING"])["VersionId"]
    secrets.update_secret_version_stage(
        SecretId="lab", VersionStage="AWSCURRENT", MoveToVersionId=second, RemoveFromVersionId=first
    )
    return secrets, second


def test_moto_does_not_know_which_version_of_a_secret_is_current() -> None:
    with moto() as s3:
        secrets, second = labelled(s3)
        assert secrets.get_secret_value(SecretId="lab")["SecretString"] == "first"
        secrets.put_secret_value(SecretId="lab", SecretString="third")
        attached = secrets.describe_secret(SecretId="lab")["VersionIdsToStages"].values()
        assert sum("AWSCURRENT" in labels for labels in attached) == 2
        secrets.put_secret_value(
            SecretId="lab", SecretString="other", ClientRequestToken=second, VersionStages=["AWSPENDING"]
        )
        assert secrets.get_secret_value(SecretId="lab", VersionId=second)["SecretString"] == "other"


def test_fix_knows_which_version_of_a_secret_is_current() -> None:
    with moto("patched") as s3:
        secrets, second = labelled(s3)
        assert secrets.get_secret_value(SecretId="lab")["SecretString"] == "second"
        with pytest.raises(ClientError) as error:
            secrets.put_secret_value(
                SecretId="lab", SecretString="other", ClientRequestToken=second, VersionStages=["AWSPENDING"]
            )
        assert code(error.value) == "ResourceExistsException"
        third = secrets.put_secret_value(SecretId="lab", SecretString="third")["VersionId"]
        attached = secrets.describe_secret(SecretId="lab")["VersionIdsToStages"]
        assert {version for version, labels in attached.items() if "AWSCURRENT" in labels} == {third}


def answers_to_revoked_keys(s3: Any) -> list[str]:
    """Return how S3 answers to the key of a user: as long as it is active, when it is not, and when it is deleted."""
    iam = client(s3, "iam")
    iam.create_user(UserName="lab")
    key = iam.create_access_key(UserName="lab")["AccessKey"]
    theirs = client(s3, "s3", (key["AccessKeyId"], key["SecretAccessKey"]))
    names = {"UserName": "lab", "AccessKeyId": key["AccessKeyId"]}

    def answer() -> str:
        try:
            theirs.put_object(Bucket=BUCKET, Key="a", Body=b"")
        except ClientError as error:
            return code(error)
        return "stored"

    answers = [answer()]
    iam.update_access_key(**names, Status="Inactive")
    answers.append(answer())
    iam.delete_access_key(**names)
    return [*answers, answer()]


def test_moto_accepts_revoked_keys() -> None:
    with moto() as s3:
        assert answers_to_revoked_keys(s3) == ["stored", "stored", "stored"]


def test_fix_refuses_revoked_keys() -> None:
    with moto("patched") as s3:
        assert answers_to_revoked_keys(s3) == ["stored", "InvalidAccessKeyId", "InvalidAccessKeyId"]


def enforced_answers(s3: Any) -> dict[str, str]:
    """Return how a user's requests are answered who may do each of them, but none on anything else; IAM is enforced."""
    iam = client(s3, "iam")
    ours = {"StringEquals": {"aws:ResourceTag/owner": "lab"}}
    statements: list[dict[str, Any]] = [
        {"Action": "iam:GetUser", "Resource": "arn:aws:iam::123456789012:user/lab"},
        {"Action": "ec2:DeleteVpc", "Resource": "arn:aws:ec2:us-east-1:123456789012:vpc/*", "Condition": ours},
        {"Action": "s3:GetBucketVersioning", "Resource": f"arn:aws:s3:::{BUCKET}"},
        {"Action": "elasticfilesystem:DescribeFileSystems", "Resource": "*"},
    ]
    document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **statement} for statement in statements]}
    iam.create_user(UserName="lab")
    iam.put_user_policy(UserName="lab", PolicyName="lab", PolicyDocument=json.dumps(document))
    key = iam.create_access_key(UserName="lab")["AccessKey"]
    keys = (key["AccessKeyId"], key["SecretAccessKey"])
    tags = [{"ResourceType": "vpc", "Tags": [{"Key": "owner", "Value": "lab"}]}]
    tagged = client(s3, "ec2").create_vpc(CidrBlock="10.0.0.0/16", TagSpecifications=tags)["Vpc"]["VpcId"]
    other = client(s3, "ec2").create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    s3.create_bucket(Bucket="other")
    enforce(s3.meta.endpoint_url, True)
    ec2, theirs = client(s3, "ec2", keys), client(s3, "s3", keys)
    requests: dict[str, Callable[[], Any]] = {
        "named user": lambda: client(s3, "iam", keys).get_user(UserName="lab"),
        "another user": lambda: client(s3, "iam", keys).get_user(UserName="other"),
        "tagged VPC": lambda: ec2.delete_vpc(VpcId=tagged),
        "another VPC": lambda: ec2.delete_vpc(VpcId=other),
        "bucket": lambda: theirs.get_bucket_versioning(Bucket=BUCKET),
        "another bucket": lambda: theirs.get_bucket_versioning(Bucket="other"),
        "GET without a query": lambda: client(s3, "efs", keys).describe_file_systems(),
    }
    answers = {}
    for name, request in requests.items():
        try:
            request()
            answers[name] = "allowed"
        except ClientError as error:
            answers[name] = code(error)
    return answers


def test_moto_enforces_neither_resources_nor_conditions() -> None:
    with moto() as s3:
        answers = enforced_answers(s3)
    assert answers["named user"] == "AccessDenied"
    assert answers["tagged VPC"] == "AccessDenied"
    assert answers["GET without a query"] == "403"


def test_fix_enforces_resources_and_conditions() -> None:
    with moto("patched") as s3:
        assert enforced_answers(s3) == {
            "named user": "allowed",
            "another user": "AccessDenied",
            "tagged VPC": "allowed",
            "another VPC": "UnauthorizedOperation",
            "bucket": "allowed",
            "another bucket": "AccessDenied",
            "GET without a query": "allowed",
        }
