"""Has a Prometheus read a daemon, and asks both what they have.

Everything lies in a directory of its own, which is removed at the end. Each wait looks for something, for at most a minute.
"""

import json
import os
import pathlib
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

from prometheus_client.openmetrics.parser import text_string_to_metric_families

BOUND = 60
DOCS = pathlib.Path(__file__).parents[2] / "manager/docs/metrics"
PROGRAMS = pathlib.Path(os.environ["KENNEL_PROGRAMS"])


def until(what, look):
    """What `look` gives once that is something."""
    end = time.monotonic() + BOUND
    while True:
        found = look()
        if found is not None:
            return found
        if time.monotonic() > end:
            sys.exit(f"not within {BOUND} s: {what}")
        time.sleep(0.05)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Daemon:
    def __init__(self, home):
        self.home = home
        self.environment = {
            "HOME": str(home),
            "PATH": os.environ["PATH"],
            "KENNEL_STATE_DIR": str(home / "state"),
            "XDG_CONFIG_HOME": str(home / "config"),
        }
        configuration = home / "config/kennel/config.toml"
        configuration.parent.mkdir(parents=True)
        configuration.write_text('[listen]\ntcp = "127.0.0.1:0"\n[agents.frail]\nkind = "shell"\n')

    def kennel(self, *words):
        done = subprocess.run(
            [PROGRAMS / "kennel", *words], cwd=self.home, env=self.environment, capture_output=True, text=True, timeout=BOUND
        )
        if done.returncode:
            sys.exit(f"kennel {words}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def json(self, *words):
        return json.loads(self.kennel("--json", *words))


def certificate(state):
    """The certificate of the port, without its key."""
    text = (state / "tls.pem").read_text()
    return text[text.index("-----BEGIN CERTIFICATE-----") :]


def parsed(address, key, ca, query):
    """The families that the reference parser finds, by name; it refuses what is not OpenMetrics."""
    request = urllib.request.Request(f"https://{address}/metrics{query}", headers={"Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request, context=ssl.create_default_context(cafile=ca), timeout=BOUND) as answer:
        kind, text = answer.headers["content-type"], answer.read().decode()
    assert kind == "application/openmetrics-text; version=1.0.0; charset=utf-8", kind
    return {family.name: family for family in text_string_to_metric_families(text)}


def with_places(text, places):
    for old, new in places.items():
        assert old in text, f"{old} is not in the configuration any more"
        text = text.replace(old, str(new))
    return text


def main(home):
    daemon = Daemon(home)
    try:
        daemon.kennel("start", "--id", "one", "--dir", "/")
        daemon.kennel("send", "one", "echo said")
        address = daemon.json("daemon", "status")["listen"]["addresses"][0]
        key = daemon.kennel("key", "create", "prometheus", "--role", "viewer").strip()
        ca, key_file, web = home / "kennel.pem", home / "kennel.key", f"127.0.0.1:{free_port()}"
        ca.write_text(certificate(home / "state"))
        key_file.touch(mode=0o600)
        key_file.write_text(key)
        shutil.copy(DOCS / "alerts.yml", home / "alerts.yml")
        families = parsed(address, key, ca, "?sessions=true")
        assert families["kennel_session_memory_bytes"].unit == "bytes" and len(families) > 25, sorted(families)
        places = {
            "/etc/prometheus/kennel-alerts.yml": home / "alerts.yml",
            "/etc/prometheus/kennel.key": key_file,
            "/etc/prometheus/kennel.pem": ca,
            "box.example:7443": address,
        }
        configuration = "global: {scrape_interval: 1s, evaluation_interval: 1s}\n" + with_places((DOCS / "prometheus.yml").read_text(), places)
        (home / "prometheus.yml").write_text(configuration)
        scrape(daemon, web)
    finally:
        daemon.kennel("daemon", "stop")


def another(daemon, pid):
    """What a session shows once its process is another, or it has failed."""
    info = daemon.json("show", "broken")
    return info if info["status"] == "failed" or info["pid"] not in (None, pid) else None


def scrape(daemon, web):
    def ask(path, **query):
        url = f"http://{web}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=BOUND) as answer:
                return json.load(answer)["data"]
        except OSError:
            return None

    def value(query):
        result = (ask("query", query=query) or {}).get("result")
        return float(result[0]["value"][1]) if result else None

    log = open(daemon.home / "prometheus.log", "wb")
    prometheus = subprocess.Popen(
        ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=series", f"--web.listen-address={web}"],
        cwd=daemon.home, stdout=log, stderr=log,
    )
    try:
        until("a scrape", lambda: value('up{job="kennel"} == 1'))
        until("a turn", lambda: value('kennel_turns_total{agent="shell",outcome="completed"} == 1'))
        target = ask("targets")["activeTargets"][0]
        assert target["health"] == "up" and not target["lastError"], target
        kinds = {name: facts[0]["type"] for name, facts in ask("metadata").items() if name.startswith("kennel_")}
        for name, kind in {"kennel_turns": "counter", "kennel_sessions": "gauge", "kennel_commit_seconds": "histogram"}.items():
            assert kinds[name] == kind, kinds
        names = [rule["name"] for group in ask("rules")["groups"] for rule in group["rules"]]
        assert len(names) > 5, names
        until("the alerts' first evaluation", lambda: {rule["health"] for group in ask("rules")["groups"] for rule in group["rules"]} == {"ok"} or None)
        # A death is counted, and its recovery has a time.
        os.kill(daemon.json("show", "one")["pid"], signal.SIGKILL)
        until("a restart", lambda: value('kennel_restarts_total{agent="shell",cause="worker_died"} == 1'))
        until("a recovery", lambda: value("histogram_quantile(0.5, sum by (le) (kennel_recovery_seconds_bucket)) > 0"))
        # A session that fails is seen by an alert, also the first one of its agent.
        daemon.kennel("start", "--id", "broken", "--dir", "/", "--agent", "frail")
        for _ in range(8):
            info = daemon.json("show", "broken")
            if info["status"] == "failed":
                break
            if info["pid"] is not None:
                try:
                    os.kill(info["pid"], signal.SIGKILL)
                except ProcessLookupError:
                    pass
            until("the next process", lambda: another(daemon, info["pid"]))
        firing = until("an alert", lambda: [alert for alert in (ask("alerts") or {}).get("alerts", []) if alert["labels"]["alertname"] == "KennelSessionFailed"] or None)
        assert firing[0]["state"] == "firing", firing
        # The daemon's end is seen.
        daemon.kennel("daemon", "stop")
        until("the end", lambda: value('up{job="kennel"} == 0'))
    finally:
        prometheus.terminate()
        prometheus.wait(BOUND)
    print(f"Prometheus has read {len(kinds)} kinds of figures, {len(names)} alerts have been evaluated")


if __name__ == "__main__":
    made = pathlib.Path(tempfile.mkdtemp())
    try:
        main(made)
    finally:
        shutil.rmtree(made)
