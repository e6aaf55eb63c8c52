"""Fields and values that KubeRay and Kubernetes accept, as published.

KubeRay: ``helm-chart/kuberay-operator/crds/ray.io_{rayclusters,rayjobs,raycronjobs}.yaml`` and
``ray-operator/apis/ray/v1/*_types.go`` of ray-project/kuberay, releases 1.5 and 1.6
(``authOptions`` since 1.5.1; RayCronJob since 1.6.0, without its later ``timeZone``). Kubernetes:
the API reference of core/v1 and batch/v1. The lists cover only fields that these manifests may use.
Look up a missing field there before you add it here.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Kind:
    """An object with its fields, required fields and allowed values.

    Attributes:
        fields: kind of the value, or of each list entry, by field name; None allows any value.
        required: names of required fields.
        values: allowed values by field name.
    """

    fields: dict[str, Kind | None]
    required: frozenset[str] = frozenset()
    values: dict[str, frozenset[str]] = field(default_factory=dict)


def _plain(*names: str) -> dict[str, Kind | None]:
    return dict.fromkeys(names)


SECURITY = Kind(
    {
        **_plain("allowPrivilegeEscalation", "runAsNonRoot", "runAsUser", "runAsGroup"),
        **_plain("readOnlyRootFilesystem", "privileged"),
        "capabilities": Kind(_plain("add", "drop")),
        "seccompProfile": Kind(
            _plain("type", "localhostProfile"),
            frozenset({"type"}),
            {"type": frozenset({"RuntimeDefault", "Unconfined", "Localhost"})},
        ),
    }
)
_KEY = Kind(_plain("name", "key", "optional"), frozenset({"key"}))
ENVIRONMENT = Kind(
    {
        **_plain("name", "value"),
        "valueFrom": Kind({"secretKeyRef": _KEY, "configMapKeyRef": _KEY, "fieldRef": None}),
    },
    frozenset({"name"}),
)
_SOURCE = Kind(_plain("name", "optional"))
ENVIRONMENT_FROM = Kind({"prefix": None, "configMapRef": _SOURCE, "secretRef": _SOURCE})
RESOURCES = Kind(_plain("limits", "requests", "claims"))
CONTAINER = Kind(
    {
        **_plain("name", "image", "imagePullPolicy", "command", "args", "workingDir"),
        **_plain("livenessProbe", "readinessProbe", "lifecycle"),
        "env": ENVIRONMENT,
        "envFrom": ENVIRONMENT_FROM,
        "ports": Kind(_plain("name", "containerPort", "protocol"), frozenset({"containerPort"})),
        "resources": RESOURCES,
        "securityContext": SECURITY,
        "volumeMounts": Kind(
            _plain("name", "mountPath", "readOnly", "subPath"), frozenset({"name", "mountPath"})
        ),
    },
    frozenset({"name"}),
)
POD = Kind(
    {
        "metadata": Kind(_plain("labels", "annotations")),
        "spec": Kind(
            {
                **_plain("serviceAccountName", "automountServiceAccountToken", "nodeSelector"),
                **_plain("restartPolicy", "terminationGracePeriodSeconds", "imagePullSecrets"),
                "containers": CONTAINER,
                "initContainers": CONTAINER,
                "securityContext": Kind(
                    _plain("runAsUser", "runAsGroup", "runAsNonRoot", "fsGroup", "seccompProfile")
                ),
                "tolerations": Kind(_plain("key", "operator", "value", "effect")),
                "volumes": Kind(
                    {
                        **_plain("name", "secret", "configMap", "persistentVolumeClaim"),
                        "emptyDir": Kind(_plain("medium", "sizeLimit")),
                    },
                    frozenset({"name"}),
                ),
            },
            frozenset({"containers"}),
        ),
    }
)
AUTOSCALER = Kind(
    {
        **_plain("idleTimeoutSeconds", "image", "imagePullPolicy", "upscalingMode", "version"),
        "env": ENVIRONMENT,
        "envFrom": ENVIRONMENT_FROM,
        "resources": RESOURCES,
        "securityContext": SECURITY,
        "volumeMounts": None,
    },
    values={
        "upscalingMode": frozenset({"Default", "Aggressive", "Conservative"}),
        "version": frozenset({"v1", "v2"}),
    },
)
RAY_CLUSTER_SPEC = Kind(
    {
        **_plain("rayVersion", "enableInTreeAutoscaling", "suspend", "managedBy"),
        **_plain("headServiceAnnotations", "gcsFaultToleranceOptions"),
        "authOptions": Kind(_plain("mode"), values={"mode": frozenset({"disabled", "token"})}),
        "autoscalerOptions": AUTOSCALER,
        "headGroupSpec": Kind(
            {
                **_plain("enableIngress", "headService", "rayStartParams", "serviceType"),
                "template": POD,
            },
            frozenset({"template"}),
            {"serviceType": frozenset({"ClusterIP", "NodePort", "LoadBalancer"})},
        ),
        "workerGroupSpecs": Kind(
            {
                **_plain("groupName", "replicas", "minReplicas", "maxReplicas", "numOfHosts"),
                **_plain("rayStartParams", "idleTimeoutSeconds", "scaleStrategy", "suspend"),
                "template": POD,
            },
            frozenset({"groupName", "minReplicas", "maxReplicas", "template"}),
        ),
    },
    frozenset({"headGroupSpec"}),
)
RAY_JOB_SPEC = Kind(
    {
        **_plain("entrypoint", "backoffLimit", "activeDeadlineSeconds", "clusterSelector"),
        **_plain("shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "runtimeEnvYAML"),
        **_plain("entrypointNumCpus", "entrypointNumGpus", "entrypointResources", "jobId"),
        **_plain("metadata", "managedBy", "submitterConfig", "suspend", "submissionMode"),
        "submitterPodTemplate": POD,
        "rayClusterSpec": RAY_CLUSTER_SPEC,
    },
    values={
        "submissionMode": frozenset({"K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"})
    },
)
_METADATA = Kind(_plain("name", "generateName", "namespace", "labels", "annotations"))


def _object(**fields: Kind | None) -> Kind:
    """Return a top-level object, including the fields that all of them have."""
    return Kind(
        {**_plain("apiVersion", "kind"), "metadata": _METADATA, **fields},
        frozenset({"apiVersion", "kind", "metadata"}),
    )


KINDS = {
    ("ray.io/v1", "RayCluster"): _object(spec=RAY_CLUSTER_SPEC),
    ("ray.io/v1", "RayJob"): _object(spec=RAY_JOB_SPEC),
    ("ray.io/v1", "RayCronJob"): _object(
        spec=Kind(
            {**_plain("schedule", "suspend"), "jobTemplate": RAY_JOB_SPEC},
            frozenset({"schedule", "jobTemplate"}),
        )
    ),
    ("batch/v1", "CronJob"): _object(
        spec=Kind(
            {
                **_plain("schedule", "timeZone", "suspend", "concurrencyPolicy"),
                **_plain("startingDeadlineSeconds", "successfulJobsHistoryLimit"),
                "failedJobsHistoryLimit": None,
                "jobTemplate": Kind(
                    {
                        "metadata": None,
                        "spec": Kind(
                            {
                                **_plain("backoffLimit", "activeDeadlineSeconds"),
                                "ttlSecondsAfterFinished": None,
                                "template": POD,
                            },
                            frozenset({"template"}),
                        ),
                    }
                ),
            },
            frozenset({"schedule", "jobTemplate"}),
            {"concurrencyPolicy": frozenset({"Allow", "Forbid", "Replace"})},
        )
    ),
    ("v1", "ConfigMap"): _object(data=None),
    ("v1", "ServiceAccount"): _object(automountServiceAccountToken=None),
}


def faults(value: object, kind: Kind | None, where: str = "") -> list[str]:
    """Return the faults of a value, each with its path."""
    if kind is None:
        return []
    if isinstance(value, list):
        return [
            fault for i, each in enumerate(value) for fault in faults(each, kind, f"{where}[{i}]")
        ]
    if not isinstance(value, dict):
        return [f"{where}: is no object"]
    found = [f"{where}.{name}: unknown" for name in value if name not in kind.fields]
    found += [f"{where}.{name}: missing" for name in sorted(kind.required - set(value))]
    for name, inner in value.items():
        allowed = kind.values.get(name)
        if allowed is not None and inner not in allowed:
            found.append(f"{where}.{name}: {inner} is none of {', '.join(sorted(allowed))}")
        found += faults(inner, kind.fields.get(name), f"{where}.{name}")
    return found
