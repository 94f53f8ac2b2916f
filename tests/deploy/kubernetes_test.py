"""k8s/: every overlay renders, every object is one that a cluster takes, and whatever it says about the
programs (variables, ports, probes, health names, metrics) is true of the programs that were built."""

import json
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

from manifests import K8S, OVERLAYS, all_containers, environment, of_kind, pod_templates, read_documents, render, selects
from programs import BINARIES, POEM_ALPACA, PREFIXES, SOURCE, default_listen, flag_of, flags, node_folder, run

# The endpoint picker of an InferencePool comes from its own chart.
PICKER = {"matchLabels": {"inferencepool": "yangtuo"}}
CALLS_END = 2  # seconds that gateways and workers give to trailers after their drain


def every_pod():
    for overlay in OVERLAYS:
        objects = render(overlay)
        for name, template in pod_templates(objects):
            yield f"{overlay}: {name}", template, objects


def is_sidecar(container):
    return container.get("restartPolicy") == "Always"


def services(template):
    """The containers that run one of our services: the pod's own, and its sidecars."""
    found = [c for c in all_containers(template) if c["command"][0] in PREFIXES]
    assert found, template
    return found


def every_service():
    for name, template, objects in every_pod():
        for container in services(template):
            yield f"{name}/{container['name']}", template, container, objects


def ports_of(template):
    return {p["name"]: p["containerPort"] for container in services(template) for p in container["ports"]}


def component(container):
    return container["command"][0].removeprefix("yangtuo-")


def fewest_replicas(objects):
    """{(kind, name): fewest replicas} of all that an autoscaler scales."""
    return {(o["spec"]["scaleTargetRef"]["kind"], o["spec"]["scaleTargetRef"]["name"]):
            o["spec"].get("minReplicas", o["spec"].get("minReplicaCount"))
            for o in of_kind(objects, "HorizontalPodAutoscaler", "ScaledObject")}


def listens(container, values):
    """{flag: port} of a container's addresses, as its variables say or by default."""
    program = container["command"][0]
    ports = {flag: port for flag, (_, port) in default_listen(program).items()}
    for variable, value in values.items():
        flag = flag_of(program, variable)
        if flag in ports:
            ports[flag] = int(value.rsplit(":", 1)[1])
    return ports


class RenderingTest(unittest.TestCase):
    def test_every_overlay_renders_and_repeats_no_object(self):
        self.assertGreaterEqual(len(OVERLAYS), 5)
        for overlay in OVERLAYS:
            names = [(o["apiVersion"].split("/")[0], o["kind"], o["metadata"]["name"]) for o in render(overlay)]
            self.assertGreater(len(names), 15, overlay)
            self.assertEqual(len(names), len(set(names)), f"{overlay}: {sorted(names)}")

    def test_only_what_belongs_to_no_namespace_is_outside_of_ours(self):
        for overlay in OVERLAYS:
            for o in render(overlay):
                clusterwide = o["kind"] in ("Namespace", "PriorityClass", "PersistentVolume")
                self.assertEqual(o["metadata"].get("namespace"), None if clusterwide else "yangtuo",
                                 f"{overlay}: {o['kind']} {o['metadata']['name']}")

    def test_every_object_validates_against_its_schema(self):
        objects = [o for overlay in OVERLAYS for o in render(overlay)]
        folder = node_folder("kubernetes_schemas")
        if folder is None:
            self.skipTest("npm cannot install the schemas")

        def problems(of):
            result = run(["node", folder / "validate.mjs"], input=json.dumps(of), limit=120)
            self.assertEqual(result.returncode, 0, result.stderr)
            return json.loads(result.stdout)

        self.assertEqual(problems(objects), [])
        # The validator finds what is wrong.
        for change in (lambda o: o["spec"].update(replicas="two"),
                       lambda o: o["spec"]["template"]["spec"]["containers"][0].update(readynessProbe={}),
                       lambda o: o["spec"]["template"]["spec"]["containers"][0]["readinessProbe"].update(periodSecs=3),
                       lambda o: o["spec"].pop("selector")):
            broken = json.loads(json.dumps(of_kind(objects, "Deployment")[0]))
            change(broken)
            self.assertEqual(len(problems([broken])), 1, broken)
        groups = json.loads(json.dumps(of_kind(objects, "LeaderWorkerSet")[0]))
        groups["spec"]["leaderWorkerTemplate"]["restartPolicy"] = "Always"
        groups["spec"]["leaderWorkerTemplate"]["workerTemplate"]["spec"]["containers"][0]["ports"][0]["containerPort"] = "x"
        self.assertEqual(len(problems([groups])), 2, problems([groups]))


    def test_every_image_has_the_tag_of_this_version(self):
        """A kubelet takes it from its node where it is there, and nobody gets another one by surprise."""
        version = re.search(r"project\(yangtuo VERSION (\S+)", (SOURCE / "CMakeLists.txt").read_text())[1]
        for name, template, _ in every_pod():
            for container in all_containers(template):
                self.assertRegex(container["image"], rf"^(registry\.example\.com/)?yangtuo:{re.escape(version)}$", name)
                self.assertNotIn("imagePullPolicy", container, name)
        build = f"docker build -f deploy/image/Dockerfile -t yangtuo:{version} -t yangtuo .\n"
        for page in ("k8s/README.md", "deploy/image/Dockerfile", "deploy/compose.yaml"):
            self.assertIn(build, (SOURCE / page).read_text(), page)


class SafetyTest(unittest.TestCase):
    def test_every_pod_is_restricted_and_has_no_token(self):
        for name, template, _ in every_pod():
            spec = template["spec"]
            with self.subTest(name):
                self.assertIs(spec["automountServiceAccountToken"], False)
                self.assertIs(spec["enableServiceLinks"], False)
                self.assertTrue(spec["securityContext"]["runAsNonRoot"])
                self.assertEqual(spec["securityContext"]["seccompProfile"]["type"], "RuntimeDefault")
                for container in all_containers(template):
                    context = container["securityContext"]
                    self.assertIs(context["allowPrivilegeEscalation"], False)
                    self.assertIs(context["readOnlyRootFilesystem"], True)
                    self.assertEqual(context["capabilities"], {"drop": ["ALL"]})
                    for mount in container.get("volumeMounts", []):
                        self.assertTrue(mount["readOnly"], mount)
                for volume in spec.get("volumes", []):
                    self.assertNotIn("hostPath", volume)
                for key in ("hostNetwork", "hostPID", "hostIPC"):
                    self.assertNotIn(key, spec)

    def test_a_drain_ends_before_the_pod_is_killed(self):
        for name, template, container, objects in every_service():
            prefix = PREFIXES[container["command"][0]]
            drain = float(environment(container, template, objects)[f"{prefix}DRAIN_SECONDS"])
            grace = template["spec"]["terminationGracePeriodSeconds"]
            if is_sidecar(container):  # ends after the pod's own containers, when nothing runs in it
                self.assertLessEqual(drain, CALLS_END, name)
                continue
            before = container["lifecycle"]["preStop"]["sleep"]["seconds"]
            self.assertGreaterEqual(before, 5, name)
            self.assertGreaterEqual(grace, before + drain + 3 * CALLS_END, name)

    def test_every_stream_of_a_gateway_ends_within_the_drains_of_gateway_and_worker(self):
        for overlay in OVERLAYS:
            drains, longest = {}, None
            for name, template in pod_templates(render(overlay)):
                for container in services(template):
                    values = environment(container, template, render(overlay))
                    if not is_sidecar(container) and component(container) != "tokenizer":
                        drains[name] = float(values[PREFIXES[container["command"][0]] + "DRAIN_SECONDS"])
                    longest = float(values.get("YANGTUO_GATEWAY_DEFAULT_DEADLINE", longest or 0))
            self.assertGreater(longest, 0, overlay)
            for name, drain in drains.items():
                self.assertGreaterEqual(drain, longest, f"{overlay}: {name}")

    def test_shards_outlast_their_leader(self):
        templates = dict(pod_templates(render("sharded")))
        sleep = {role: services(templates[f"worker/{role}"])[0]["lifecycle"]["preStop"]["sleep"]["seconds"]
                 for role in ("leaderTemplate", "workerTemplate")}
        self.assertGreater(sleep["workerTemplate"], sleep["leaderTemplate"])

    def test_an_update_takes_one_group_of_shards_at_a_time(self):
        """StatefulSets know nothing of each other: with several groups, somebody has to take one after the other."""
        readme = (K8S / "README.md").read_text()
        for overlay in OVERLAYS:
            sets = [o for o in of_kind(render(overlay), "StatefulSet") if "yangtuo-group" in o["metadata"]["labels"]]
            for o in sets:
                self.assertEqual(o["spec"]["updateStrategy"], {"type": "OnDelete"}, f"{overlay}: {o['metadata']['name']}")
            if sets:
                self.assertIn(f"-l yangtuo-group={sets[0]['spec']['template']['metadata']['labels']['yangtuo-group']}\n", readme)
                self.assertIn(f"pod/{sets[0]['metadata']['name']}-0 ", readme)
        self.assertEqual(len(of_kind(render("sharded-statefulset"), "StatefulSet")), 2)

    def test_workers_own_whole_cores(self):
        for name, template, _ in every_pod():
            if template["metadata"]["labels"]["app.kubernetes.io/component"] not in ("worker", "server"):
                continue
            for container in all_containers(template):
                resources = container["resources"]
                self.assertEqual(resources["requests"], resources["limits"], name)
                self.assertRegex(resources["requests"]["cpu"], r"^[1-9][0-9]*$", name)

    def test_everything_is_denied_that_is_not_allowed(self):
        for overlay in OVERLAYS:
            policies = {o["metadata"]["name"]: o["spec"] for o in of_kind(render(overlay), "NetworkPolicy")}
            self.assertEqual(policies["default-deny"], {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})
            [dns] = policies["dns"]["egress"]
            self.assertEqual(dns["to"], [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}},
                                         {"ipBlock": {"cidr": "169.254.20.10/32"}}], overlay)
            self.assertEqual({(p["port"], p["protocol"]) for p in dns["ports"]}, {(53, "UDP"), (53, "TCP")}, overlay)

    def test_the_table_says_which_overlays_have_keys_and_tls(self):
        table = dict(re.findall(r"^\| `([a-z-]+)` \|[^|]*\| ([^|]*) \|", (K8S / "README.md").read_text(), re.MULTILINE))
        self.assertEqual(sorted(table), OVERLAYS)
        for overlay in OVERLAYS:
            objects = render(overlay)
            values = {}
            for _, template in pod_templates(objects):
                for container in services(template):
                    values.update(environment(container, template, objects))
            has = [name for name, variable in (("keys", "YANGTUO_GATEWAY_API_KEYS_FILE"), ("TLS", "YANGTUO_GATEWAY_TLS_CERT"))
                   if variable in values]
            self.assertEqual(table[overlay], ", ".join(has) or "none", overlay)
        for overlay in ("production", "production-keda"):
            self.assertIn("keys", table[overlay])

    def test_every_set_of_pods_has_a_disruption_budget_that_lets_a_node_drain(self):
        for overlay in OVERLAYS:
            objects = render(overlay)
            budgets = [o["spec"] for o in of_kind(objects, "PodDisruptionBudget")]
            for name, template in pod_templates(objects):
                matching = [b for b in budgets if selects(b["selector"]["matchLabels"], template)]
                self.assertEqual(len(matching), 1, f"{overlay}: {name}")
            fewest = fewest_replicas(objects)
            for o in of_kind(objects, "Deployment"):
                budget = next(b for b in budgets if selects(b["selector"]["matchLabels"], o["spec"]["template"]))
                replicas = fewest.get((o["kind"], o["metadata"]["name"])) or o["spec"]["replicas"]
                self.assertTrue("maxUnavailable" in budget or budget["minAvailable"] < replicas,
                                f"{overlay}: {o['metadata']['name']}")

    def test_an_apply_leaves_the_number_of_replicas_to_the_autoscaler(self):
        scaled = {}
        for overlay in OVERLAYS:
            objects = render(overlay)
            fewest = fewest_replicas(objects)
            scaled[overlay] = {name for _, name in fewest}
            for o in of_kind(objects, "Deployment", "StatefulSet", "LeaderWorkerSet"):
                self.assertEqual("replicas" in o["spec"], (o["kind"], o["metadata"]["name"]) not in fewest,
                                 f"{overlay}: {o['kind']} {o['metadata']['name']}")
        for overlay in ("production", "production-keda", "sharded"):
            self.assertEqual(scaled[overlay], {"gateway", "tokenizer", "worker"}, overlay)


    def test_a_rolling_update_has_room_for_the_pod_that_comes_first(self):
        """A pod that may not stand beside its own kind, and must be there before another one goes, needs a machine more
        than there are replicas: where there is none, the update stands still."""
        for overlay in OVERLAYS:
            for o in of_kind(render(overlay), "Deployment", "LeaderWorkerSet"):
                rolling = o["spec"].get("strategy", {}).get("rollingUpdate") or o["spec"]["rolloutStrategy"]["rollingUpdateConfiguration"]
                for name, template in pod_templates([o]):
                    anti = template["spec"].get("affinity", {}).get("podAntiAffinity", {})
                    required = [term for term in anti.get("requiredDuringSchedulingIgnoredDuringExecution", [])
                                if selects(term["labelSelector"]["matchLabels"], template)]
                    self.assertFalse(required and rolling["maxUnavailable"] == 0, f"{overlay}: {name}")


class ReferencesTest(unittest.TestCase):
    def test_selectors_select_what_is_there(self):
        for overlay in OVERLAYS:
            objects = render(overlay)
            templates = [t for _, t in pod_templates(objects)]

            def some(selector, what):
                found = [t for t in templates if selects({k: v for k, v in selector.items()
                                                          if not k.endswith("pod-index")}, t)]
                self.assertTrue(found, f"{overlay}: {what} selects nothing: {selector}")
                return found

            for o in of_kind(objects, "Deployment", "StatefulSet"):
                self.assertTrue(selects(o["spec"]["selector"]["matchLabels"], o["spec"]["template"]), overlay)
            for o in of_kind(objects, "Service"):
                for template in some(o["spec"]["selector"], f"Service {o['metadata']['name']}"):
                    for port in o["spec"]["ports"]:
                        names = ports_of(template)
                        if o["metadata"]["name"] != "shards" or port["targetPort"] in names:
                            self.assertEqual(names[port["targetPort"]], port["port"], f"{overlay}: {o['metadata']['name']}")
            for o in of_kind(objects, "NetworkPolicy"):
                spec = o["spec"]
                peers = [p for rule in spec.get("ingress", []) for p in rule.get("from", [])]
                peers += [p for rule in spec.get("egress", []) for p in rule.get("to", [])]
                if spec["podSelector"] != PICKER:
                    some(spec["podSelector"].get("matchLabels", {}), f"NetworkPolicy {o['metadata']['name']}")
                for peer in peers:
                    if "podSelector" in peer and peer["podSelector"] != PICKER:
                        some(peer["podSelector"]["matchLabels"], f"a peer of NetworkPolicy {o['metadata']['name']}")
            for o in of_kind(objects, "PodMonitor"):
                ports = {name for template in some(o["spec"]["selector"]["matchLabels"], "PodMonitor")
                         for name in ports_of(template) if name.startswith("admin")}
                self.assertEqual({endpoint["port"] for endpoint in o["spec"]["podMetricsEndpoints"]}, ports, overlay)
            for o in of_kind(objects, "InferencePool"):
                for template in some(o["spec"]["selector"]["matchLabels"], "InferencePool"):
                    self.assertEqual([p["number"] for p in o["spec"]["targetPorts"]], [ports_of(template)["http"]])

    def test_services_name_the_protocol_that_the_gateway_speaks(self):
        cleartext = {"grpc": "kubernetes.io/h2c", "http": "http"}
        seen = set()
        for overlay in OVERLAYS:
            objects = render(overlay)
            for _, template in pod_templates(objects):
                for container in services(template):
                    if component(container) != "gateway":
                        continue
                    tls = "YANGTUO_GATEWAY_TLS_CERT" in environment(container, template, objects)
                    for o in of_kind(objects, "Service"):
                        for port in o["spec"]["ports"]:
                            if "appProtocol" in port and selects(o["spec"]["selector"], template):
                                self.assertEqual(port["appProtocol"], "https" if tls else cleartext[port["name"]],
                                                 f"{overlay}: {o['metadata']['name']}")
                                seen.add((overlay, o["metadata"]["name"], port["name"]))
        self.assertLessEqual({("production", name, port) for name in ("gateway", "gateways") for port in cleartext}, seen)

    def test_policies_open_the_ports_that_the_pods_listen_on(self):
        """Every port but the admin one is reachable by whom it is for, and no policy names any other port."""
        for overlay in OVERLAYS:
            objects = render(overlay)
            opened = {}
            for o in of_kind(objects, "NetworkPolicy"):
                for rule in o["spec"].get("ingress", []):
                    for port in rule["ports"]:
                        opened.setdefault(port["port"], []).append(o["spec"]["podSelector"].get("matchLabels", {}))
            listening = set()
            for name, template in pod_templates(objects):
                for port in ports_of(template).values():
                    listening.add(port)
                    self.assertTrue(any(selects(s, template) for s in opened.get(port, [])),
                                    f"{overlay}: nobody may reach {name} on {port}")
            self.assertLessEqual(set(opened), listening | {50060, 9002}, overlay)

    def test_traces_reach_a_collector_that_a_config_map_names(self):
        reference = {"configMapRef": {"name": "tracing", "optional": True}}
        for name, _, container, objects in every_service():
            self.assertEqual(container["envFrom"], [reference], name)
        self.assertIn("create configmap tracing --from-literal=OTEL_EXPORTER_OTLP_ENDPOINT=http://collector.monitoring:4318",
                      (K8S / "README.md").read_text())
        for overlay in OVERLAYS:
            policies = {o["metadata"]["name"]: o["spec"] for o in of_kind(render(overlay), "NetworkPolicy")}
            self.assertEqual(policies["tracing"]["egress"][0]["ports"], [{"port": 4318, "protocol": "TCP"}], overlay)
            self.assertEqual(policies["tracing"]["podSelector"]["matchLabels"], {"app.kubernetes.io/name": "yangtuo"})

    def test_what_pods_refer_to_exists(self):
        for overlay in OVERLAYS:
            objects = render(overlay)

            def names(kind):
                return {o["metadata"]["name"] for o in of_kind(objects, kind)}

            heads = names("Service")
            for name, template in pod_templates(objects):
                spec = template["spec"]
                self.assertIn(spec["serviceAccountName"], names("ServiceAccount"), f"{overlay}: {name}")
                self.assertIn(spec["priorityClassName"], names("PriorityClass"), f"{overlay}: {name}")
                volumes = {v["name"]: v for v in spec.get("volumes", [])}
                for container in all_containers(template):
                    self.assertLessEqual({m["name"] for m in container.get("volumeMounts", [])}, set(volumes))
                for volume in volumes.values():
                    if "persistentVolumeClaim" in volume:
                        self.assertIn(volume["persistentVolumeClaim"]["claimName"], names("PersistentVolumeClaim"))
                    elif "secret" in volume:
                        self.assertIn(volume["secret"]["secretName"], (K8S / "README.md").read_text())
                for container in services(template):
                    for value in environment(container, template, objects).values():
                        for host in re.findall(r"dns:///([a-z-]+):", value):
                            self.assertIn(host, heads, f"{overlay}: {name}")
            for o in of_kind(objects, "StatefulSet"):
                self.assertIn(o["spec"]["serviceName"], heads, overlay)
            targets = [o["spec"]["scaleTargetRef"] for o in of_kind(objects, "HorizontalPodAutoscaler", "ScaledObject")]
            kinds = {(o["apiVersion"], o["kind"], o["metadata"]["name"]) for o in objects}
            for target in targets:
                self.assertIn((target["apiVersion"], target["kind"], target["name"]), kinds, overlay)
            self.assertEqual(len(targets), len({t["name"] for t in targets}), f"{overlay}: two autoscalers, one target")


class ProgramsTest(unittest.TestCase):
    def test_every_variable_is_a_flag_and_every_value_is_taken(self):
        """Each container's variables through --check-config of its program, on this machine's files."""
        with tempfile.TemporaryDirectory() as folder:
            tls = pathlib.Path(folder)
            subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", tls / "tls.key", "-out",
                            tls / "tls.crt", "-days", "1", "-subj", "/CN=workers"], check=True, capture_output=True)
            (tls / "ca.crt").write_bytes((tls / "tls.crt").read_bytes())
            added = run([BINARIES / "yangtuo", "keys", "add", "--file", tls / "keys.json", "--tenant", "t"])
            self.assertEqual(added.returncode, 0, added.stderr)
            checked = 0
            for name, template, container, objects in every_service():
                program = container["command"][0]
                values = environment(container, template, objects)
                for variable, value in values.items():
                    self.assertNotIn("$(", value, f"{name}: {variable} refers to what is not set before it")
                    if variable.startswith("YANGTUO_"):
                        self.assertIn(flag_of(program, variable), flags(program), f"{name}: {variable}")
                    values[variable] = re.sub(r"/models/[\w.-]+", str(POEM_ALPACA), value)
                    for mounted in ("/etc/yangtuo/tls", "/etc/yangtuo/keys"):
                        values[variable] = values[variable].replace(mounted, str(tls))
                result = run([BINARIES / program, *container["command"][1:], *container.get("args", []), "--check-config"],
                             environment={**values, "PATH": "/usr/bin"})
                self.assertEqual(result.returncode, 0, f"{name}: {result.stdout}{result.stderr}")
                checked += 1
            self.assertGreater(checked, 12)

    def test_ports_are_the_programs_own_and_open_to_the_pod_network(self):
        for name, template, container, objects in every_service():
            program = container["command"][0]
            values = environment(container, template, objects)
            ports = listens(container, values)
            documented = {flag: port for flag, (_, port) in default_listen(program).items()}
            if len(services(template)) > 1:  # programs that share a pod need admin ports of their own
                self.assertEqual(len(ports_of(template)), len(set(ports_of(template).values())), name)
                documented["admin-listen"] = ports["admin-listen"]
            self.assertEqual(ports, documented, f"{name}: the documented ports")
            declared = {p["containerPort"] for p in container["ports"]}
            for flag, port in ports.items():
                variable = PREFIXES[program] + flag.upper().replace("-", "_")
                if port in declared:
                    self.assertRegex(values.get(variable, ""), r"^0\.0\.0\.0:", f"{name}: {variable} is loopback only")
                else:
                    self.assertRegex(values.get(variable, "127.0.0.1:"), r"^127\.0\.0\.1:", f"{name}: {variable} is no port of the pod")
            self.assertLessEqual(declared, set(ports.values()), name)

    def test_shards_of_a_group_find_each_other(self):
        objects = render("sharded")
        templates = dict(pod_templates(objects))
        for role, index in (("leaderTemplate", 0), ("workerTemplate", 1)):
            template = templates[f"worker/{role}"]
            values = environment(services(template)[0], template, objects)
            self.assertEqual(values["YANGTUO_WORKER_SHARD"], f"{index}/2")
            # LeaderWorkerSet names pods NAME-GROUP and NAME-GROUP-WORKER, in a headless service NAME.
            self.assertEqual(values["YANGTUO_WORKER_NEXT"], "worker-0-{next}.worker:50060")
        objects = render("sharded-statefulset")
        for o in of_kind(objects, "StatefulSet"):
            values = environment(services(o["spec"]["template"])[0], o["spec"]["template"], objects)
            self.assertEqual(values["YANGTUO_WORKER_SHARD"], f"0/{o['spec']['replicas']}")
            self.assertEqual(values["YANGTUO_WORKER_NEXT"], f"{o['metadata']['name']}-{{next}}.{o['spec']['serviceName']}:50060")

    def test_probes_ask_what_the_programs_answer(self):
        """On a running cluster: every path is 200 and every health name is SERVING."""
        from cluster import Cluster, health_pb2
        paths, names = {}, {}
        for name, _, container, _ in every_service():
            ports = {p["name"]: p["containerPort"] for p in container["ports"]}
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                kind = container[probe]
                if "httpGet" in kind:
                    self.assertIn(kind["httpGet"]["port"], [port for port in ports if port.startswith("admin")], name)
                    paths.setdefault(component(container), set()).add(kind["httpGet"]["path"])
                else:
                    self.assertIn(kind["grpc"]["port"], ports.values(), name)
                    port = "shard" if kind["grpc"]["port"] == ports.get("shard") else "grpc"
                    names.setdefault(component(container), set()).add((port, kind["grpc"]["service"]))
        self.assertEqual({c: p for c, p in paths.items() if "/livez" not in p}, {})
        with Cluster(shards=2) as cluster:
            processes = {"gateway": [cluster.gateway], "tokenizer": [cluster.tokenizer], "worker": cluster.workers[0]}
            for program, asked in paths.items():
                for process in processes[program]:
                    for path in asked:
                        self.assertEqual(process.http(path)[0], 200, f"{program} {path}")
            for program, asked in names.items():
                for port, service in asked:
                    role = -1 if "Shard" in service else 0
                    process = processes[program][role]
                    self.assertEqual(cluster.health(process, service, port), health_pb2.HealthCheckResponse.SERVING,
                                     f"{program} {service}")

    def test_models_are_verified_before_they_are_served(self):
        """The init step of every pod with weights, on the demo model and on one with a changed byte."""
        with tempfile.TemporaryDirectory() as folder:
            damaged = pathlib.Path(folder) / "damaged"
            shutil.copytree(POEM_ALPACA, damaged)
            verified = 0
            for name, template, objects in every_pod():
                init = [c for c in template["spec"].get("initContainers", []) if not is_sidecar(c)]
                if not any(component(container) == "worker" for container in services(template)):
                    self.assertEqual(init, [], name)
                    continue
                verified += 1
                self.assertEqual([c["command"] for c in init], [["yangtuo", "verify", "$(MODEL_PATH)"]], name)
                self.assertRegex(environment(init[0], template, objects)["MODEL_PATH"], "^/models/", name)
            self.assertGreater(verified, 5)
            command = [BINARIES / "yangtuo", "verify"]
            self.assertEqual(run([*command, damaged, "--write"]).returncode, 0)
            self.assertEqual(run([*command, damaged]).returncode, 0)
            with open(damaged / "model.safetensors", "r+b") as weights:
                weights.seek(-1, 2)
                byte = weights.read(1)
                weights.seek(-1, 2)
                weights.write(bytes([byte[0] ^ 1]))
            result = run([*command, damaged])
            self.assertEqual(result.returncode, 1, result.stdout + result.stderr)

    def test_autoscalers_read_metrics_that_workers_have(self):
        from cluster import Cluster
        rules = read_documents(K8S / "scaling" / "hpa" / "prometheus-adapter-rules.yaml")[0]["rules"]
        made = {rule["name"]["as"] for rule in rules}
        queries = [rule["seriesQuery"] for rule in rules] + [rule["metricsQuery"] for rule in rules]
        asked = set()
        for overlay in OVERLAYS:
            for o in of_kind(render(overlay), "HorizontalPodAutoscaler"):
                asked |= {m["pods"]["metric"]["name"] for m in o["spec"]["metrics"] if m["type"] == "Pods"}
            for o in of_kind(render(overlay), "ScaledObject"):
                queries += [t["metadata"]["query"] for t in o["spec"]["triggers"]]
        self.assertEqual(asked, made)
        names = set(re.findall(r"\b(yangtuo_\w+)\{", " ".join(queries)))
        self.assertEqual(names, {"yangtuo_requests_running", "yangtuo_requests_waiting", "yangtuo_kv_cache_usage_ratio"})
        with Cluster() as cluster:
            for name in names:
                self.assertEqual(cluster.leaders()[0].metric(name), 0)


if __name__ == "__main__":
    unittest.main()
