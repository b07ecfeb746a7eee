"""Recording rules: what alerts and boards ask for again and again, without aggregating a target's labels away."""

from __future__ import annotations

from dataclasses import dataclass

from .settings import RuleSettings, duration

__all__ = ["RECENT", "RECENT_LAYERS", "Recording", "rate_recordings", "recent_anomalies", "recent_layers"]

RECENT = "instance_agent_kind:loopscope_anomalies:recent"
"""1 for each kind of anomaly of an agent that is open, or was told a short while ago; nothing else is there."""
RECENT_LAYERS = "instance_agent_kind_layer:loopscope_incidents:recent"
"""The layers in which an anomaly is open; where none is, those in which it was a short while ago."""
_AGENT = "on (job, instance, agent, rank)"
"""What is one agent: `rank` is empty where the run is not distributed, and the same on both sides then."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A series that Prometheus computes: its name is `level:metric:operation`."""

    name: str
    expression: str

    def rule(self) -> dict[str, str]:
        """Return it as Prometheus reads it."""
        return {"record": self.name, "expr": self.expression}


def recent_anomalies(settings: RuleSettings) -> Recording:
    """Return the one expression behind the alerts of all kinds. It has three legs, as each alone overlooks something.

    The gauge knows how long an anomaly lasts, but not one that is over before the next scrape, nor one of a moment (a
    recompilation, a write in place). `increase` of the counter sees those, over resets and restarts too, as every kind
    exists with 0 from the start; but not what had been counted before a run's first scrape, where most of what is
    wrong from the first step on happens. So all that a new run has counted is news, also once it has ended. Runs are
    told apart by the label `run`: a script that is started again has the same instance, and perhaps the same counts.
    """
    recent, memory = duration(settings.recent_seconds), duration(settings.run_memory_seconds)
    return Recording(
        RECENT,
        "loopscope_anomaly_active == 1\n"
        f"or\nsgn(increase(loopscope_anomalies_total[{recent}]) > 0)\n"
        f"or\nsgn(last_over_time(loopscope_anomalies_total[{recent}]) > 0)\n"
        f"and {_AGENT} (\nlast_over_time(loopscope_run_info[{recent}])\n"
        f"unless\npresent_over_time(loopscope_run_info[{memory}] offset {recent})\n)",
    )


def recent_layers(settings: RuleSettings) -> Recording:
    """Return the layers that alerts name, at most as many as there are open anomalies and those just closed."""
    incidents = 'loopscope_incident_info{layer!=""}'
    return Recording(
        RECENT_LAYERS,
        f"{incidents}\nor on (job, instance, agent, rank, kind)\n"
        f"last_over_time({incidents}[{duration(settings.recent_seconds)}])",
    )


def rate_recordings(settings: RuleSettings) -> tuple[Recording, ...]:
    """Return what boards and people ask for: speeds and shares, of each agent and rank by itself."""
    window = duration(settings.rate_window_seconds)
    steps = f"sum without (optimizer) (rate(loopscope_steps_total[{window}]))"
    seconds = f"rate(loopscope_step_duration_seconds_sum[{window}])"
    return (
        Recording(f"instance_agent:loopscope_steps:rate{window}", f"rate(loopscope_steps_total[{window}])"),
        Recording(
            f"instance_agent:loopscope_step_duration_seconds:mean{window}",
            f"{seconds} / (rate(loopscope_step_duration_seconds_count[{window}]) > 0)",
        ),
        *(
            Recording(
                f"instance_agent:loopscope_step_duration_seconds:p{quantile}_{window}",
                f"histogram_quantile({quantile / 100:g}, rate(loopscope_step_duration_seconds_bucket[{window}]))",
            )
            for quantile in (50, 95, 99)
        ),
        Recording(
            f"instance_agent_phase:loopscope_step_phase_seconds:share{window}",
            f"rate(loopscope_step_phase_seconds_total[{window}]) / ignoring (phase) group_left () ({seconds} > 0)",
        ),
        Recording(
            f"instance_agent:loopscope_device_syncs:per_step{window}",
            f"sum without (site, kind) (rate(loopscope_device_syncs_total[{window}])) / ({steps} > 0)",
        ),
        Recording(
            "instance_agent:loopscope_gradient_clipping:ratio",
            'loopscope_gradient_global_norm{stage="post_clip"} / ignoring (stage) '
            '(loopscope_gradient_global_norm{stage="pre_clip"} > 0)',
        ),
    )
