"""The cluster files, checked against Ray's schema and Ray's completed configuration."""

from __future__ import annotations

import copy
import re
import subprocess
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from cluster import aws
from cluster.launched import BOOTSTRAP, NodeType, join_own_cluster, read_launched

ROOT = Path(__file__).resolve().parents[2]
FILES = ["cluster.yaml", "cluster/on-premises.yaml", "cluster/one-machine.yaml"]
COMMANDS = (
    *("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands"),
    *("head_start_ray_commands", "worker_start_ray_commands"),
)
PACKAGES = {"search", "spaces", "trainables", "cluster"}


def load(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    return loaded


def completed(name: str) -> dict[str, Any]:
    """Return a cluster file with Ray's defaults."""
    prepared: dict[str, Any] = prepare_config(copy.deepcopy(load(name)))
    return prepared


def commands(config: dict[str, Any]) -> list[str]:
    return [command for kind in COMMANDS for command in config.get(kind, [])]


@pytest.mark.parametrize("name", FILES)
def test_ray_accepts_each_cluster_file(name: str) -> None:
    validate_config(completed(name))


def test_ray_refuses_a_misspelt_field() -> None:
    config = completed("cluster.yaml") | {"max_worker": 3}
    with pytest.raises(Exception, match="max_worker"):
        validate_config(config)


@pytest.mark.parametrize("name", FILES)
def test_everything_search_py_needs_is_mounted_beside_it(name: str) -> None:
    mounts = load(name)["file_mounts"]
    own = {
        remote: local for remote, local in mounts.items() if not str(local).startswith(("~", "/"))
    }
    assert {str(local) for local in own.values()} > PACKAGES
    for remote, local in own.items():
        assert (ROOT / local).exists()
        assert remote == f"~/{local}"
    top = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert top <= set(own.values())


@pytest.mark.parametrize("name", FILES)
def test_only_constrained_packages_are_installed(name: str) -> None:
    config = completed(name)
    assert "sh ~/cluster/install.sh" in config["setup_commands"]
    for command in commands(config):
        assert "pip install" not in command, "a default of Ray has come through"
        assert "nightly" not in command
        assert "latest" not in command
    script = (ROOT / "cluster" / "install.sh").read_text()
    assert '--constraint "$project/constraints.txt"' in script


@pytest.mark.parametrize("name", FILES)
def test_dashboard_listens_on_loopback_only(name: str) -> None:
    config = completed(name)
    starts = [command for command in commands(config) if "ray start --head" in command]
    (start,) = starts
    assert "--dashboard-host=127.0.0.1" in start
    assert "0.0.0.0" not in str(commands(config))  # noqa: S104


@pytest.mark.parametrize("name", FILES)
def test_every_node_requires_the_token(name: str) -> None:
    config = completed(name)
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    for command in commands(config):
        if "ray start" in command:
            assert "export RAY_AUTH_MODE=token" in command.partition("ray start")[0]
        assert "RAY_AUTH_TOKEN" not in command


@pytest.mark.parametrize("name", FILES)
def test_mps_starts_before_ray_on_gpu_nodes(name: str) -> None:
    config = completed(name)
    kind = "head" if name.endswith("one-machine.yaml") else "worker"
    started = " ".join(config[f"{kind}_start_ray_commands"])
    assert re.search(r'eval "\$\(sh ~/cluster/mps.sh start\)"; ray start', started)


def test_aws_gpus_are_spot_nodes_scaled_from_zero() -> None:
    types = completed("cluster.yaml")["available_node_types"]
    worker, head = types["gpu-worker"], types["head"]
    assert worker["min_workers"] == 0
    assert worker["max_workers"] > 0
    assert worker["resources"]["GPU"] > 0
    assert worker["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"
    assert "InstanceMarketOptions" not in head["node_config"]
    assert head["max_workers"] == 0


def test_aws_account_settings_come_from_launch_templates() -> None:
    """Ray's defaults would open SSH to everybody and give the head access to every bucket."""
    for kind in completed("cluster.yaml")["available_node_types"].values():
        assert kind["node_config"]["LaunchTemplate"]["LaunchTemplateName"].startswith(aws.NAME)
    assert load("cluster.yaml")["cluster_name"] == aws.NAME


# What the head knows about its cluster


def bootstrap(folder: Path, name: str, **fields: Any) -> Path:
    (folder / BOOTSTRAP).write_text(yaml.safe_dump(completed(name) | fields))
    return folder


def test_head_knows_the_nodes_its_autoscaler_can_start(tmp_path: Path) -> None:
    launched = read_launched(bootstrap(tmp_path, "cluster.yaml"))
    assert launched is not None
    assert launched.port == 6379
    assert launched.node_types == [NodeType("gpu-worker", {"CPU": 8.0, "GPU": 1.0}, 4)]


def test_head_knows_number_of_hosts_but_not_their_resources(tmp_path: Path) -> None:
    launched = read_launched(bootstrap(tmp_path, "cluster/on-premises.yaml"))
    assert launched is not None
    (hosts,) = launched.node_types
    assert (hosts.most, hosts.resources) == (2, {})


def test_cluster_of_one_machine_does_not_grow(tmp_path: Path) -> None:
    launched = read_launched(bootstrap(tmp_path, "cluster/one-machine.yaml"))
    assert launched is not None
    assert launched.node_types == []


def test_script_beside_rays_file_joins_that_cluster(tmp_path: Path) -> None:
    start = ["ray stop", "ulimit -n 65536; ray start --head --port=6399"]
    bootstrap(tmp_path, "cluster.yaml", head_start_ray_commands=start)
    variables: dict[str, str] = {"RAY_AUTH_TOKEN_PATH": "/some/file"}
    join_own_cluster(tmp_path / "search.py", variables)
    assert variables["RAY_ADDRESS"] == "127.0.0.1:6399"
    assert variables["RAY_AUTH_MODE"] == "token"


def test_address_set_by_the_user_takes_precedence(tmp_path: Path) -> None:
    bootstrap(tmp_path, "cluster.yaml")
    variables = {"RAY_ADDRESS": "local"}
    join_own_cluster(tmp_path / "search.py", variables)
    assert variables == {"RAY_ADDRESS": "local"}


@pytest.mark.parametrize("text", ["", "[]", "{", "max_workers: 3", "- a\n- b", "\0"])
def test_files_other_than_rays_are_ignored(tmp_path: Path, text: str) -> None:
    (tmp_path / BOOTSTRAP).write_text(text)
    assert read_launched(tmp_path) is None
    variables: dict[str, str] = {}
    join_own_cluster(tmp_path / "search.py", variables)
    assert variables == {}


# The environment of a node


def install(home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", ROOT / "cluster" / "install.sh"],
        env={"HOME": str(home), "PATH": "/usr/bin:/bin"} | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def environment_of(folder: Path) -> Path:
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho ours\n")
    python.chmod(0o755)
    return folder


def test_login_shells_find_the_environments_python_first(tmp_path: Path) -> None:
    environment = environment_of(tmp_path / "shared")
    home = tmp_path / "home"
    (home / ".ray").mkdir(parents=True)
    (home / ".ray" / "auth_token").touch()
    (home / ".borderline").mkdir()
    (home / ".borderline" / "environment").write_text("MLFLOW_TRACKING_URI=https://a.example\n")
    for _ in range(2):
        assert install(home, BORDERLINE_ENVIRONMENT=str(environment)).returncode == 0
    for file in (".bashrc", ".profile"):
        assert (home / file).read_text().count(".borderline/profile") == 2  # Twice in one line.
    shown = subprocess.run(
        ["bash", "--login", "-c", "python; echo $RAY_AUTH_MODE $MLFLOW_TRACKING_URI"],
        env={"HOME": str(home), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout == "ours\ntoken https://a.example\n"


def test_invalid_environment_is_refused_in_one_line(tmp_path: Path) -> None:
    result = install(tmp_path, BORDERLINE_ENVIRONMENT=str(tmp_path / "none"))
    assert result.returncode == 2
    assert result.stderr == f"install.sh: {tmp_path}/none holds no bin/python\n"


def test_missing_python_3_11_is_reported_in_one_line(tmp_path: Path) -> None:
    result = install(tmp_path, PYTHON="false")
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("install.sh: there is no Python 3.11 or newer")


# The AWS account, simulated by moto


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a simulated account with its default VPC."""
    moto = pytest.importorskip("moto")
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(key, "testing")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with moto.mock_aws():
        yield boto3.Session(region_name="us-east-1")


IMAGE = "ami-12c6146b"  # An image that moto knows.


def prepare(ssh_from: str) -> int:
    return aws.main(["prepare", "--bucket", "pictures", "--ssh-from", ssh_from, "--image", IMAGE])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_ssh_is_allowed_from_one_address_only(account: Any) -> None:
    for address in ("203.0.113.7", "198.51.100.9"):  # The user moves.
        assert prepare(address) == 0
    ec2 = account.client("ec2")
    (group,) = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": [aws.NAME]}])[
        "SecurityGroups"
    ]
    open_to = [
        (rule.get("FromPort"), entry["CidrIp"])
        for rule in group["IpPermissions"]
        for entry in rule["IpRanges"]
    ]
    assert open_to == [(22, "198.51.100.9/32")]
    among = [
        pair["GroupId"] for rule in group["IpPermissions"] for pair in rule["UserIdGroupPairs"]
    ]
    assert among == [group["GroupId"]]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_nodes_access_one_bucket_and_workers_nothing_else(account: Any) -> None:
    assert prepare("203.0.113.7") == 0
    iam = account.client("iam")
    policies = {
        role: iam.list_role_policies(RoleName=role)["PolicyNames"]
        for role in ("borderline-head", "borderline-worker")
    }
    assert policies["borderline-worker"] == ["storage"]
    assert sorted(policies["borderline-head"]) == ["pass-role", "scaling", "storage"]
    document = iam.get_role_policy(RoleName="borderline-worker", PolicyName="storage")
    for statement in document["PolicyDocument"]["Statement"]:
        assert str(statement["Resource"]).startswith("arn:aws:s3:::pictures")
        assert "*" not in statement["Action"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_launch_templates_complete_cluster_yaml(account: Any) -> None:
    for _ in range(2):
        assert prepare("203.0.113.7") == 0
    ec2 = account.client("ec2")
    for kind in completed("cluster.yaml")["available_node_types"].values():
        name = kind["node_config"]["LaunchTemplate"]["LaunchTemplateName"]
        (version,) = ec2.describe_launch_template_versions(
            LaunchTemplateName=name, Versions=["$Default"]
        )["LaunchTemplateVersions"]
        assert version["VersionNumber"] == 2
        data = version["LaunchTemplateData"]
        assert data["ImageId"] == IMAGE
        assert len(data["SecurityGroupIds"]) == 1
        assert data["IamInstanceProfile"]["Arn"].endswith(name)


@pytest.mark.parametrize("everybody", ["0.0.0.0/0", "::/0", "home"])
def test_invalid_or_open_ssh_address_is_refused(
    capsys: pytest.CaptureFixture[str], everybody: str
) -> None:
    assert prepare(everybody) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"aws: --ssh-from = {everybody}: ")
