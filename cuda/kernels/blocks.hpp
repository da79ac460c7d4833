// Around the products of the blocked factorisation (factoriser.cu), for matrices that don't fit shared memory.
#pragma once

#include "kernels/number.hpp"

namespace redunet::cuda {

constexpr int kTile = 32, kTileRows = 8;

// Tiles of the lower triangle of an n x n matrix.
inline index_t tiles_of(index_t n) {
  const index_t rows = (n + kTile - 1) / kTile;
  return rows * (rows + 1) / 2;
}

// to[q] (n, n) = scale[s] * M[q], the whole Hermitian matrix from the lower triangle, with sums as in Factorise; `to`
// may be M. A block of 32 x 8 threads takes a tile of the triangle, `tiles` of them a matrix: rows are read and written
// as they lie, and the tile above the diagonal by way of shared memory, 32 x 33 numbers.
template <class N>
__global__ void hermitian_kernel(const N* M, index_t group, int terms, int n, unsigned tiles, const double* scale,
                                 N* to) {
  using T = Real<N>;
  constexpr int kStride = kTile + 1;
  SharedMemory shared;
  N* const tile = shared.array<N>(kTile * kStride);
  const unsigned tile_number = blockIdx.x % tiles;
  const index_t matrix = blockIdx.x / tiles, s = matrix / group, size = index_t{n} * n;
  // Tiles of row `row` begin at row (row + 1) / 2.
  unsigned row = static_cast<unsigned>((sqrtf(8.0F * static_cast<float>(tile_number) + 1.0F) - 1.0F) / 2.0F);
  while (row * (row + 1) / 2 > tile_number) --row;
  while ((row + 1) * (row + 2) / 2 <= tile_number) ++row;
  const int first_i = static_cast<int>(row) * kTile,
            first_j = static_cast<int>(tile_number - row * (row + 1) / 2) * kTile;
  const int x = static_cast<int>(threadIdx.x);
  const T by = scale == nullptr ? T(1) : static_cast<T>(scale[s]);

  for (int y = static_cast<int>(threadIdx.y); y < kTile; y += kTileRows) {
    const int i = first_i + y, j = first_j + x;
    if (i >= n || j > i) continue;
    const N* const at = M + matrix * size + index_t{i} * n + j;
    N sum = number<N>(0);
    if (s == 0 && terms > 0)
      for (int t = 1; t <= terms; ++t) sum = add_scaled(sum, T(1), at[t * group * size]);
    else
      sum = *at;
    sum = scaled(by, sum);
    tile[y * kStride + x] = i == j ? number<N>(real_part(sum)) : sum;
  }
  __syncthreads();
  for (int y = static_cast<int>(threadIdx.y); y < kTile; y += kTileRows) {
    const int i = first_i + y, j = first_j + x;
    if (i < n && j <= i) to[matrix * size + index_t{i} * n + j] = tile[y * kStride + x];
    const int above_i = first_j + y, above_j = first_i + x;  // of the element (above_j, above_i) of the triangle
    if (above_j < n && above_i < above_j)
      to[matrix * size + index_t{above_i} * n + above_j] = conjugate(tile[x * kStride + y]);
  }
}

}  // namespace redunet::cuda
