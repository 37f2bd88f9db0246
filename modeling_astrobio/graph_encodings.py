"""Structural encodings of the nodes of graphs, and of pairs of nodes, from the dense adjacency of a batch.

All but the plain Laplacian eigenvectors are functions of the adjacency matrix itself and not of a basis of its
eigenspaces: they move with the nodes under a relabelling. Padding is an eigenspace of its own, far from all others.

Shape suffixes: B graphs, N nodes, K steps, C filters.
"""

import torch


__all__ = [
    "degree_encoding",
    "laplacian_eigenvectors",
    "laplacian_spectrum",
    "normalised_adjacency",
    "random_walk_return_probabilities",
    "spectral_filter_diagonals",
    "spectral_filters",
]

# Eigenvalues of the normalised Laplacian are from 0 to 2; this one marks padding.
_PADDING_EIGENVALUE = 4.0
_NOT_ZERO = 1e-6


def normalised_adjacency(adjacency: torch.Tensor) -> torch.Tensor:
    """Return D^-1/2 A D^-1/2 of a symmetric A, shape (B, N, N); rows of nodes without an edge are zero."""
    scale = adjacency.sum(-1).clamp(min=1).rsqrt()
    return adjacency * scale[:, :, None] * scale[:, None, :]


def random_walk_return_probabilities(normalised: torch.Tensor, num_steps: int) -> torch.Tensor:
    """Return the probability that a random walk is back where it began after 1 to `num_steps` steps.

    diag((D^-1 A)^k), k = 1, ... (Dwivedi et al. 2022, arXiv:2110.07875, equation 4), which is diag(S^k) of the
    symmetric S = D^-1/2 A D^-1/2; the diagonal of S^(a + b) is the row sum of S^a * S^b, so that half the powers do.

    Args:
        normalised: S, shape (B, N, N).
        num_steps: K.

    Returns:
        Shape (B, N, K), from 0 to 1.
    """
    power = normalised
    found = [torch.diagonal(normalised, dim1=-2, dim2=-1)]
    while len(found) < num_steps:
        found.append((power * power).sum(-1))
        further = power @ normalised
        found.append((power * further).sum(-1))
        power = further
    return torch.stack(found[:num_steps], dim=-1)


def degree_encoding(adjacency: torch.Tensor, num_degrees: int) -> torch.Tensor:
    """Return log(1 + degree) and whether the degree is 0, 1, ..., `num_degrees` - 1 or more, (B, N, 1 + num_degrees).

    Args:
        adjacency: Shape (B, N, N).
        num_degrees: Degrees that are told apart.
    """
    degree = adjacency.sum(-1, keepdim=True)
    places = torch.arange(num_degrees, dtype=degree.dtype, device=degree.device)
    return torch.cat((degree.log1p(), (degree.clamp(max=num_degrees - 1) == places).to(degree.dtype)), dim=-1)


def laplacian_spectrum(normalised: torch.Tensor, node_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return eigenvalues (B, N), ascending, and eigenvectors (B, N, N), in columns, of I - D^-1/2 A D^-1/2.

    Eigenvalues of real nodes are from 0 to 2, those of padding 4. Computed in float64.

    Args:
        normalised: D^-1/2 A D^-1/2, shape (B, N, N).
        node_mask: Where a node is real, bool, shape (B, N).
    """
    diagonal = torch.where(node_mask, 1.0, _PADDING_EIGENVALUE).to(torch.float64)
    return torch.linalg.eigh(torch.diag_embed(diagonal) - normalised.to(torch.float64))


def _filter_gains(values: torch.Tensor, num_filters: int) -> torch.Tensor:
    """Return exp(-(lambda - c)^2 / 2 s^2) for c evenly from 0 to 2, s half their spacing, and 0 of padding."""
    centres = torch.linspace(0, 2, num_filters, dtype=values.dtype, device=values.device)[:, None]
    width = 1 / (num_filters - 1)
    gains = torch.exp(-0.5 * ((values[:, None, :] - centres) / width).square())
    return gains * (values[:, None, :] < 0.5 * (2 + _PADDING_EIGENVALUE))


def spectral_filters(values: torch.Tensor, vectors: torch.Tensor, num_filters: int) -> torch.Tensor:
    """Return U g_c(Lambda) U^T for `num_filters` smooth bands g_c of the spectrum, shape (B, C, N, N).

    A function of the matrix, so that it does not depend on the basis of an eigenspace, and continuous where
    eigenvalues meet (Huang et al. 2024, arXiv:2310.02579, for such stable and expressive encodings).

    Args:
        values: Eigenvalues of `laplacian_spectrum`, shape (B, N).
        vectors: Its eigenvectors, shape (B, N, N).
        num_filters: C, at least 2.
    """
    gains = _filter_gains(values, num_filters)
    return (vectors[:, None] * gains[:, :, None, :]) @ vectors.mT[:, None]


def spectral_filter_diagonals(filters: torch.Tensor) -> torch.Tensor:
    """Return the diagonals of filters (B, C, N, N) as encodings of nodes, shape (B, N, C)."""
    return torch.diagonal(filters, dim1=-2, dim2=-1).mT


def laplacian_eigenvectors(
    values: torch.Tensor, vectors: torch.Tensor, num_vectors: int, random_signs: bool
) -> torch.Tensor:
    """Return the eigenvectors of the smallest eigenvalues but the first, shape (B, N, num_vectors).

    Their signs are free, and within an eigenspace the basis is: they change with the order of the nodes (Dwivedi et
    al. 2020, arXiv:2003.00982, draw signs anew at each step of training). Where there are too few, zeros follow.

    Args:
        values: Eigenvalues of `laplacian_spectrum`, shape (B, N).
        vectors: Its eigenvectors, shape (B, N, N).
        num_vectors: How many.
        random_signs: Whether to draw the signs; otherwise the first entry that is not 0 is positive.
    """
    wanted = vectors[:, :, 1 : num_vectors + 1]
    real = values[:, None, 1 : num_vectors + 1] < 0.5 * (2 + _PADDING_EIGENVALUE)
    if random_signs:
        signs = torch.randint(0, 2, (len(wanted), 1, wanted.shape[-1]), device=wanted.device).to(wanted.dtype) * 2 - 1
    else:
        first = (wanted.abs() > _NOT_ZERO).to(torch.uint8).argmax(1, keepdim=True)
        signs = wanted.gather(1, first).sign()
    wanted = wanted * signs * real
    return torch.nn.functional.pad(wanted, (0, num_vectors - wanted.shape[-1]))
