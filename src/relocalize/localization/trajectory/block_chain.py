"""Linear equations of a chain: every block of unknowns is tied to its neighbours alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_solve_banded, cholesky_banded

from relocalize.geometry.transforms import FloatArray


@dataclass(frozen=True, eq=False)
class BlockChain:
    """A symmetric positive definite matrix of N x N blocks, block tridiagonal."""

    diagonal: FloatArray  # [N, B, B]
    below: FloatArray  # [N - 1, B, B] block (k + 1, k)

    def solve(self, right: FloatArray) -> tuple[FloatArray, float]:
        """``x`` [N, B] with ``A x = right`` [N, B], and the log determinant of A.

        Raises:
            numpy.linalg.LinAlgError: the matrix is not positive definite.
        """
        factor = cholesky_banded(self._banded(), lower=True, check_finite=False)
        solution = cho_solve_banded((factor, True), right.ravel(), check_finite=False)
        return solution.reshape(right.shape), 2 * float(np.log(factor[0]).sum())

    def _banded(self) -> FloatArray:
        """Lower diagonals as LAPACK wants them: row d, column j holds entry (j + d, j)."""
        count, size, _ = self.diagonal.shape
        banded = np.zeros((2 * size, count * size))
        for row in range(size):
            for column in range(size):
                if row >= column:
                    banded[row - column, column::size] = self.diagonal[:, row, column]
                off_diagonal = banded[size + row - column, column::size]
                off_diagonal[: count - 1] = self.below[:, row, column]
        return banded

    def inverse_diagonal(self) -> FloatArray:
        """The blocks [N, B, B] on the diagonal of the inverse: each block's own covariance.

        Source: the recursion of Rauch, Tung and Striebel (1965) in information form.
        """
        count = len(self.diagonal)
        gains = np.empty_like(self.below)
        inverses = np.empty_like(self.diagonal)
        inverses[0] = np.linalg.inv(self.diagonal[0])
        for k in range(count - 1):
            gains[k] = self.below[k] @ inverses[k]
            inverses[k + 1] = np.linalg.inv(self.diagonal[k + 1] - gains[k] @ self.below[k].T)
        for k in range(count - 2, -1, -1):
            inverses[k] += gains[k].T @ inverses[k + 1] @ gains[k]
        symmetric: FloatArray = (inverses + inverses.transpose(0, 2, 1)) / 2
        return symmetric
