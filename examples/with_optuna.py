"""A search for parameters whose trials run on a cluster. Needs optuna. `python examples/with_optuna.py`.

The study stays in this program, which asks it for parameters and tells it results as they come: no database is needed, and the
workers do not need optuna.
"""

import optuna

from scaler import Client, ScalerFuture, SchedulerClusterCombo

TRIALS = 60
AT_ONCE = 4


def loss(x: float, y: float) -> float:
    return (x - 2) ** 2 + (y + 1) ** 2


def search(client: Client, study: optuna.Study) -> None:
    waiting: dict[ScalerFuture[float], optuna.Trial] = {}
    for number in range(TRIALS + AT_ONCE):
        if number >= AT_ONCE:
            future = next(client.as_completed(waiting))
            study.tell(waiting.pop(future), future.result())
        if number < TRIALS:
            trial = study.ask()
            point = trial.suggest_float("x", -10, 10), trial.suggest_float("y", -10, 10)
            waiting[client.submit(loss, *point)] = trial


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=1))
    with SchedulerClusterCombo(n_workers=2) as cluster, Client(cluster.get_address()) as client:
        search(client, study)
    print(f"{len(study.trials)} trials, best below 5: {study.best_value < 5}")


if __name__ == "__main__":
    main()
