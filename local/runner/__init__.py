"""The local task runner: ECS agent, service scheduler and load balancer for the task definitions in the emulator.

emulator <── ecs.py ──> engine.py ──> scheduler.py (pure: what to start and stop)
                          │
                          ├── task.py       one task: prepare, start, health checks, stop, report
                          │     ├── definition.py, mapping.py, health.py   (pure)
                          │     ├── runtime.py (protocol) <- process_runtime.py, docker_runtime.py
                          │     └── metadata.py, secrets.py, logs.py
                          └── forwarder.py  127.0.0.1:<UI port> -> healthy tasks behind the load balancer
"""
