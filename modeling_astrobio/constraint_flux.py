"""Whether a network can carry flux: flux balance analysis (Orth et al. 2010, doi:10.1038/nbt.1614) with cobra."""

from collections.abc import Iterable
from dataclasses import dataclass

from .metabolic_files import network_to_cobra
from .metabolic_network import MetabolicNetwork, NetworkError


try:
    from cobra.flux_analysis import flux_variability_analysis
except ImportError:
    flux_variability_analysis = None


__all__ = ["FluxReport", "flux_report"]

# Below, a flux is the solver's rounding, mmol per gram dry weight and hour; cobra's own tolerance is 1e-7.
_LEAST_FLUX = 1e-6


@dataclass(frozen=True)
class FluxReport:
    """What a network can carry.

    Attributes:
        status: Of the solver, "optimal" if there is a steady state within the bounds.
        optimum: Greatest value of the objective, 0 where there is no steady state; growth, 1 per hour.
        ranges: Reaction to its least and greatest flux in any steady state, mmol per gram dry weight and hour.
    """

    status: str
    optimum: float
    ranges: dict[str, tuple[float, float]]

    def carries(self, reaction_id: str) -> bool:
        """Return whether a reaction can carry flux."""
        low, high = self.ranges[reaction_id]
        return max(abs(low), abs(high)) > _LEAST_FLUX


def flux_report(network: MetabolicNetwork, reaction_ids: Iterable[str]) -> FluxReport:
    """Find the optimum of a network's objective and the ranges of some of its fluxes.

    Args:
        network: With bounds and objective.
        reaction_ids: Reactions whose ranges are wanted.

    Raises:
        ImportError: If cobra is not installed.
        NetworkError: If a reaction is not in the network.
    """
    wanted = list(reaction_ids)
    unknown = [name for name in wanted if name not in network.reactions]
    if unknown:
        raise NetworkError(f"reaction_ids must be of network {network.id}; got {', '.join(unknown)}.")
    model = network_to_cobra(network)
    solution = model.optimize()
    if solution.status != "optimal":
        return FluxReport(solution.status, 0.0, dict.fromkeys(wanted, (0.0, 0.0)))
    ranges = {}
    if wanted:
        table = flux_variability_analysis(model, wanted, fraction_of_optimum=0.0, processes=1)
        ranges = {
            name: (float(low), float(high))
            for name, low, high in zip(wanted, table["minimum"], table["maximum"], strict=True)
        }
    return FluxReport(solution.status, float(solution.objective_value), ranges)
