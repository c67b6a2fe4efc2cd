"""Creates a Deployment, patches it, watches it to completion and deletes it, with the Python client of Kubernetes.

usage: deployment.py KUBECONFIG IMAGE
"""
import sys

from kubernetes import client, config, watch

kubeconfig, image = sys.argv[1:]
config.load_kube_config(config_file=kubeconfig)
apps, core = client.AppsV1Api(), client.CoreV1Api()
labels = {"app": "python"}
container = client.V1Container(name="hello", image=image, args=["hello", "--port=8080"])
deployment = client.V1Deployment(
    metadata=client.V1ObjectMeta(name="python"),
    spec=client.V1DeploymentSpec(
        replicas=1,
        selector=client.V1LabelSelector(match_labels=labels),
        template=client.V1PodTemplateSpec(
            metadata=client.V1ObjectMeta(labels=labels),
            spec=client.V1PodSpec(containers=[container], termination_grace_period_seconds=1),
        ),
    ),
)
created = apps.create_namespaced_deployment("default", deployment)
assert created.spec.strategy.type == "RollingUpdate", created.spec.strategy


def completed(seen):
    status = seen.status
    return status.observed_generation >= seen.metadata.generation and (
        status.updated_replicas == status.available_replicas == status.replicas == seen.spec.replicas
    )


def wait(listed, until):
    changes = watch.Watch().stream(
        apps.list_namespaced_deployment,
        "default",
        resource_version=listed.metadata.resource_version,
        timeout_seconds=60,
    )
    for seen in listed.items:
        if seen.metadata.name == "python" and until("ADDED", seen):
            return
    for change in changes:
        if change["object"].metadata.name == "python" and until(change["type"], change["object"]):
            return
    raise SystemExit("the watch ended before its time")


patched = apps.patch_namespaced_deployment("python", "default", {"spec": {"replicas": 2}})
assert patched.spec.replicas == 2 and patched.metadata.generation == 2, patched.metadata
wait(apps.list_namespaced_deployment("default"), lambda kind, seen: seen.status.observed_generation and completed(seen))
pods = core.list_namespaced_pod("default", label_selector="app=python").items
assert len(pods) == 2 and all(pod.status.phase == "Running" for pod in pods), pods

listed = apps.list_namespaced_deployment("default")
apps.delete_namespaced_deployment("python", "default", propagation_policy="Foreground")
wait(listed, lambda kind, seen: kind == "DELETED")
try:
    apps.read_namespaced_deployment("python", "default")
    raise SystemExit("the Deployment is still there")
except client.ApiException as error:
    assert error.status == 404 and error.reason == "Not Found", error
assert not core.list_namespaced_pod("default", label_selector="app=python").items
print("done")
