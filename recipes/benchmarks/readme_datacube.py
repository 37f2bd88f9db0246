"""The README's figures of AstroDatacube, made from the JSON files alone."""

from typing import Any


__all__ = [
    "atmosphere_lines",
    "climate_nano_lines",
    "cube_memory_lines",
    "datacube_nano_lines",
    "ensemble_lines",
    "first_steady_lines",
    "forecast_lines",
    "steady_lines",
    "wind_lines",
    "window_block_lines",
]

_LEADS = (1, 2, 4, 8, 16, 20)


def _mean_and_range(values: list[float], digits: int) -> str:
    """Return the mean of the seeds and, of more than one, the least and the most."""
    mean = f"{sum(values) / len(values):.{digits}f}"
    return f"{mean} ({min(values):.{digits}f}–{max(values):.{digits}f})" if len(values) > 1 else mean


def datacube_nano_lines(result: dict[str, Any]) -> list[str]:
    """Return what the default run gave."""
    training, evaluation, data = result["training"], result["evaluation"], result["data"]
    step_h = data["step_s"] / 3600
    worst = max(max(values) for values in evaluation["residuals"].values())
    lines = [
        f"The default run of AstroDatacube (`nano`, {result['model']['parameters']:,} parameters, "
        f"{training['steps']:,} steps, {training['seconds'] / 60:.1f} minutes of training on "
        f"{result['hardware']['torch_threads']} CPU threads, the machine was loaded) on {data['train']} worlds of "
        f"shallow water, rolled out on {evaluation['planets']} worlds that were held out, each of another planet: "
        "root mean square error over area, divided by that of the mean of all states of the same world (1 is as good "
        "as that, which no forecast can know), mean of the worlds; one run, one seed. Mass and energy of every "
        f"predicted state are off by at most {worst:.0e}.",
        "",
        "| forecast | " + " | ".join(f"{lead * step_h:g} h" for lead in _LEADS) + " |",
        "|" + "---|" * (len(_LEADS) + 1),
    ]
    for variable, what in (("h", "depth"), ("u", "eastward wind"), ("v", "northward wind")):
        for name, values in evaluation["relative_rmse"].items():
            cells = " | ".join(f"{values[variable][lead - 1]:.3f}" for lead in _LEADS)
            lines.append(f"| {what}, {'AstroDatacube' if name == 'model' else name} | {cells} |")
    return lines


def ensemble_lines(about: dict[str, Any], alone: dict[str, Any]) -> list[str]:
    """Return ensembles about a forecast, and those of the same recipe without one."""
    training, evaluation, data = about["training"], about["evaluation"], about["data"]
    leads = (1, 2, 4, 8)
    pairs = [
        (ours, theirs)
        for variable, values in evaluation["fair_crps"].items()
        for ours, theirs in zip(values, evaluation["mae_deterministic"][variable], strict=True)
    ]
    ratios = [ratio for values in evaluation["spread_skill_ratio"].values() for ratio in values]
    lines = [
        f"Ensembles of {evaluation['members']} by flow matching, as departures from the forecast above (`accelerate "
        f"launch recipes/train_diffusion.py diffusion.forecast=MODEL data.seed=1`, {training['steps']:,} steps, "
        f"{training['seconds'] / 60:.1f} minutes of training on one thread of a loaded machine) on "
        f"{evaluation['planets']} worlds that neither has seen; scores over the mean absolute error of climatology, "
        "one run, one seed. Goals: a fair continuous ranked probability score (CRPS) below the mean absolute error "
        "(MAE) of the forecast, reached for "
        f"{sum(ours < theirs for ours, theirs in pairs)} of {len(pairs)} variables and leads, and spread over error "
        f"from 0.8 to 1.2, reached for {sum(0.8 <= ratio <= 1.2 for ratio in ratios)} ({min(ratios):.2f} to "
        f"{max(ratios):.2f}); the last row of each variable is of the same recipe without a forecast, the change from "
        "the last state:",
        "",
        "| score | " + " | ".join(f"{lead * data['step_s'] / 3600:g} h" for lead in leads) + " |",
        "|" + "---|" * (len(leads) + 1),
    ]
    for variable, what in (("h", "depth"), ("u", "eastward wind"), ("v", "northward wind")):
        for figures, score, name in (
            (evaluation, "fair_crps", "fair CRPS"),
            (evaluation, "mae_deterministic", "MAE of the forecast"),
            (evaluation, "mae_of_mean", "MAE of the ensemble's mean"),
            (evaluation, "spread_skill_ratio", "spread over error"),
            (alone["evaluation"], "fair_crps", "fair CRPS without the forecast"),
        ):
            cells = " | ".join(f"{figures[score][variable][lead - 1]:.3f}" for lead in leads)
            lines.append(f"| {what}, {name} | {cells} |")
    return lines


def window_block_lines(result: dict[str, Any]) -> list[str]:
    """Return the comparison of blocks."""
    lines = [
        "AstroDatacube's block against one of three-dimensional shifted windows and one of global attention with as "
        f"many parameters, on {' x '.join(map(str, result['grid']))} tokens, forward and backward, float32, one CPU "
        "thread, in turn (`python recipes/benchmarks/compare_window_blocks.py`): times as fast as the window block, "
        f"median over {result['blocks']['plain']['rounds']} rounds, and the share of the measured rate of matrix "
        "products. The whole step is that of a trunk whose window blocks are replaced.",
        "",
        "| block | plain | shifted | goal | whole step | share of the rate |",
        "|---|---|---|---|---|---|",
    ]
    for key, name in (("astro", "AstroDatacube"), ("windows_3d", "windows"), ("global_attention", "global attention")):
        speeds = [
            1.0 if key == "windows_3d" else each["speed_up_median_of_rounds"][key]
            for each in (result["blocks"]["plain"], result["blocks"]["shifted"], result["whole_step"])
        ]
        goal = "1.2" if key == "astro" else "–"
        share = result["share_of_gemm_rate"]["plain"][key]
        lines.append(f"| {name} | {speeds[0]:.2f} | {speeds[1]:.2f} | {goal} | {speeds[2]:.2f} | {share:.2f} |")
    return lines


# The last three are runs of before: no row was turned or mirrored in training.
_FORECASTS = {
    "unet": "U-Net",
    "astro": "AstroDatacube",
    "astro_free": "AstroDatacube without constraints",
    "unet_before": "U-Net, rows as they are",
    "astro_no_copies": "AstroDatacube, rows as they are",
    "astro_depthwise": "AstroDatacube of depthwise convolutions, rows as they are",
}


def forecast_lines(result: dict[str, Any]) -> list[str]:
    """Return forecasts of AstroDatacube beside those of a U-Net, mean and range of the seeds."""
    leads, hours = (1, 4, 8, 20), result["step_s"] / 3600
    runs = {row: [run for run in result["runs"] if run["row"] == row] for row in _FORECASTS}
    first = runs["astro"][0]

    def error(row: str, variable: str, lead: int) -> float:
        return sum(run["figures"]["relative_rmse"]["model"][variable][lead] for run in runs[row]) / len(runs[row])

    pairs = [
        (error("astro", variable, lead), error("unet", variable, lead))
        for variable, values in first["figures"]["relative_rmse"]["model"].items()
        for lead in range(len(values))
    ]
    better = sum(ours < theirs for ours, theirs in pairs)
    lines = [
        "AstroDatacube beside a U-Net of about as many parameters, with the same stem, head, loss, roll-outs, planets "
        f"and constraints, each trained for {first['minutes']:g} minutes of one CPU thread (`python "
        "recipes/benchmarks/shallow_water_forecast.py --row ROW`), RMSE as above, mean of the seeds and their range. "
        f"Of {len(pairs)} errors, of three variables at leads from {hours:g} to {len(pairs) // 3 * hours:g} h, "
        f"AstroDatacube has the smaller mean of the seeds in {better} (goal: in all):",
        "",
        "| forecast | seeds | parameters | " + " | ".join(f"{lead * hours:g} h" for lead in leads) + " |",
        "|" + "---|" * (len(leads) + 3),
    ]
    for variable, what in (("h", "depth"), ("u", "eastward wind"), ("v", "northward wind")):
        for row, name in _FORECASTS.items():
            if not runs[row]:
                continue
            cells = []
            for lead in leads:
                values = [run["figures"]["relative_rmse"]["model"][variable][lead - 1] for run in runs[row]]
                cells.append(_mean_and_range(values, 3))
            size = f"{runs[row][0]['parameters']:,}"
            lines.append(f"| {what}, {name} | {len(runs[row])} | {size} | {' | '.join(cells)} |")
    return lines


def wind_lines(result: dict[str, Any]) -> list[str]:
    """Return winds from geopotential of another month, mean and range of the seeds."""
    runs, levels = result["runs"], result["levels_hpa"]
    first = runs[0]
    columns = [f"{name} {level:g} hPa" for name in ("u", "v") for level in levels]
    lines = [
        "Winds of one month of ERA-Interim (monthly means, 20 to 80 degrees north and south) from its geopotential, "
        f"learned from the other month alone in {first['minutes']:g} minutes of one CPU thread, as a departure from "
        "the geostrophic wind (`python recipes/benchmarks/wind_from_geopotential.py --data FILE --train MONTH --row "
        "ROW`): RMSE in m s-1, mean of the seeds and their range. Goals: below the geostrophic wind and below a U-Net "
        "of about as many parameters. More settings were tried for AstroDatacube (13) than for the U-Net (5), on a "
        "sector of the training month:",
        "",
        "| tested on | wind | seeds | " + " | ".join(columns) + " |",
        "|" + "---|" * (len(columns) + 3),
    ]
    for test in sorted({run["test"] for run in runs}):
        here = [run for run in runs if run["test"] == test]
        by_row = {row: [run for run in here if run["row"] == row] for row in ("unet", "astro")}
        rivals = (
            ("geostrophic", here[:1], "geostrophic"),
            ("U-Net", by_row["unet"], "model"),
            ("AstroDatacube", by_row["astro"], "model"),
        )
        for name, several, kind in rivals:
            cells = []
            for wind in ("ua", "va"):
                for place in range(len(levels)):
                    values = [run["rmse_m_s"][kind][wind][place] for run in several]
                    cells.append(_mean_and_range(values, 2))
            seeds = "–" if kind == "geostrophic" else len(several)
            lines.append(f"| {test.title()} | {name} | {seeds} | {' | '.join(cells)} |")
    return lines


def atmosphere_lines(constrained: dict[str, Any], free: dict[str, Any]) -> list[str]:
    """Return forecasts of atmospheres month by month, with and without constraints."""
    data, figures = constrained["data"], constrained["evaluation"]["relative_rmse"]
    leads = (1, 3, 6)
    rows = (
        ("persistence", figures["persistence"]),
        ("ridge", figures["ridge"]),
        ("AstroDatacube", figures["model"]),
        ("AstroDatacube without constraints", free["evaluation"]["relative_rmse"]["model"]),
    )
    lines = [
        f"Monthly means of the first year of {sum(data[split] for split in ('train', 'validation', 'test'))} planets "
        "of ExoPlaSim, from rest, rolled out on "
        f"{constrained['evaluation']['planets']} that were held out (`accelerate launch recipes/train_datacube.py "
        f"data.folder=FOLDER` with variables named, {constrained['training']['steps']} steps, one run, one seed: few "
        "planets, of which no claim is made): RMSE over that of the mean of all states, with water kept positive and "
        "dry mass pinned (to "
        f"{max(map(max, constrained['evaluation']['residuals'].values())):.0e}) and without, 1, 3 and 6 months ahead:",
        "",
        "| forecast | " + " | ".join(figures["model"]) + " |",
        "|" + "---|" * (len(figures["model"]) + 1),
    ]
    for name, errors in rows:
        cells = [" ".join(f"{values[lead - 1]:.2f}" for lead in leads) for values in errors.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


_HIDDEN = {
    "patches": "half the globe, in patches of all variables",
    "values": "half the values, each for itself",
    "variables": "one variable of three, wholly",
}


def climate_nano_lines(result: dict[str, Any]) -> list[str]:
    """Return what the default run of filling in gave."""
    training, errors = result["training"], result["evaluation"]["relative_rmse"]
    lines = [
        f"Hidden values of held-out worlds of shallow water, filled in (`accelerate launch recipes/train_climate.py`, "
        f"{training['steps']:,} steps, {training['seconds'] / 60:.1f} minutes of training on one thread of a loaded "
        "machine; one run, one seed): RMSE over that of climatology. How deep a world is on the mean cannot be known "
        "where depth is hidden wholly, and it differs far more between worlds than within one:",
        "",
        "| hidden | filled in by | depth | eastward wind | northward wind |",
        "|---|---|---|---|---|",
    ]
    for kind, what in _HIDDEN.items():
        for name, values in errors[kind].items():
            cells = " | ".join(f"{values[variable]:.3f}" for variable in ("h", "u", "v"))
            lines.append(f"| {what} | {'AstroDatacube' if name == 'model' else name} | {cells} |")
    return lines


def steady_lines(result: dict[str, Any]) -> list[str]:
    """Return steady climates of held-out planets, mean and range of the seeds of each setting."""
    runs, planets = result["runs"], result["planets"]
    settled = sum(planet["label"] == "equilibrium" for planet in planets)
    columns = [*(name for name in result["baselines"]["ridge"] if name != "mean"), "mean"]
    residuals = sorted(abs(planet["residual_w_m2"]) for planet in planets)
    settings = sorted({(run["minutes"], run["dropout"]) for run in runs})
    lines = [
        f"Steady climates of {len(planets)} planets of ExoPlaSim, embedded, on {' x '.join(map(str, result['grid']))} "
        "levels, latitudes and longitudes, each predicted from the others (`python "
        f"recipes/benchmarks/steady_climates.py`, {len(runs[0]['folds'])} folds, one CPU thread): RMSE over the "
        f"spread of the others, mean and range of {len(runs) // len(settings)} seeds. {settled} of them are in "
        f"equilibrium (mean flux below {result['equilibrium_w_m2']:g} W m-2; it is from {residuals[0]:.1f} to "
        f"{residuals[-1]:.1f}): these are the last months of a first model year. Goal: below the nearest planet and "
        "below ridge regression. Settings of AstroDatacube were tried on planets of the same table:",
        "",
        "| predicted by | " + " | ".join(columns) + " |",
        "|" + "---|" * (len(columns) + 1),
    ]
    for name, figures in result["baselines"].items():
        lines.append(f"| {name} | {' | '.join(f'{figures[column]:.2f}' for column in columns)} |")
    for minutes, dropout in settings:
        here = [run for run in runs if (run["minutes"], run["dropout"]) == (minutes, dropout)]
        for row, name in (("model", "AstroDatacube"), ("model and ridge", "mean of AstroDatacube and ridge")):
            cells = []
            for column in columns:
                values = [run["relative_rmse"][row][column] for run in here]
                cells.append(_mean_and_range(values if column == "mean" else [sum(values) / len(values)], 2))
            lines.append(f"| {name}, {minutes:g} minutes a fold, dropout {dropout:g} | {' | '.join(cells)} |")
    return lines


def first_steady_lines(result: dict[str, Any]) -> list[str]:
    """Return what the first planets gave, on the grid of the model."""
    means = {
        **{name: figures["mean"] for name, figures in result["baselines"].items()},
        **{
            name: sum(run["relative_rmse"][name]["mean"] for run in result["runs"]) / len(result["runs"])
            for name in result["runs"][0]["relative_rmse"]
        },
    }
    return [
        f"Of the first {len(result['planets'])} of these planets alone, on the model's own 10 x 32 x 64 (`--folder "
        f"FOLDER --states 4`, as many minutes, {len(result['runs'])} seeds), the means were {means['mean']:.2f} for "
        f"the mean of the planets, {means['nearest']:.2f} for the nearest planet, {means['ridge']:.2f} for ridge "
        f"regression and {means['astro']:.2f} for AstroDatacube."
    ]


def cube_memory_lines(result: dict[str, Any]) -> list[str]:
    """Return the peak memory of a step by the size of the input."""
    lines = [
        f"Peak memory of a training step of `{result['preset']}` beyond its weights, one cube, float32, on the CPU "
        "(`python recipes/benchmarks/datacube_memory.py`), MiB, as measured and in brackets as planned:",
        "",
        "| levels x latitudes x longitudes | plain | with activation checkpointing | plain, bytes a cell and level |",
        "|---|---|---|---|",
    ]
    shapes = list(dict.fromkeys(tuple(row["levels_latitudes_longitudes"]) for row in result["rows"]))
    for shape in shapes:
        plain, saved = (
            next(
                row
                for row in result["rows"]
                if tuple(row["levels_latitudes_longitudes"]) == shape and row["checkpointing"] is checkpointing
            )
            for checkpointing in (False, True)
        )
        cells = [f"{row['measured_bytes'] / 2**20:.0f} ({row['planned_bytes'] / 2**20:.0f})" for row in (plain, saved)]
        each = plain["measured_bytes"] / (shape[0] * shape[1] * shape[2])
        lines.append(f"| {' x '.join(map(str, shape))} | {' | '.join(cells)} | {each:,.0f} |")
    return lines
