"""`WorkerPlugin`: what worker plugins may be derived from."""

from __future__ import annotations

from typing import Any

from scaler_protocol.runtime.worker_plugins import PluginWorker, plugin_here


def worker_plugin(name: str) -> Any:
    """Return the plugin of this name that was set up in this process for the client of the running task.

    It is the object whose `setup` was called: what that has stored on it is there. Raises KeyError where there is none, as
    outside tasks.
    """
    return plugin_here(name)


class WorkerPlugin:
    """Set up in every process that runs tasks of a client, and torn down when the client leaves.

        class Database(WorkerPlugin):
            name = "database"

            def setup(self, worker):
                self.connection = connect()

            def teardown(self, worker):
                self.connection.close()

        client.register_worker_plugin(Database())

    Tasks find the object by `scaler.worker_plugin("database")`. A plugin need not be derived from this class: an object with one
    of the two methods will do. Both may be coroutine functions.
    """

    name: str | None = None
    """The name under which it is registered, where none is given; None: the name of its class."""

    def setup(self, worker: PluginWorker) -> object:
        """Called in each process before the first task of the client that is submitted after the registration."""

    def teardown(self, worker: PluginWorker) -> object:
        """Called when the client leaves, or the plugin is unregistered or replaced, or the process ends in order."""
