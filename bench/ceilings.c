// What a core can do at most: chains of multiply-adds in registers, and a block of memory read again and again.
// Compiled by bench/ceilings.py with -O3 -march=native; a vector is as wide as the widest registers.

#if defined(__AVX512F__)
#define WIDTH 64
#define CHAINS 16
#elif defined(__AVX__)
#define WIDTH 32
#define CHAINS 12
#else
#define WIDTH 16
#define CHAINS 12
#endif

typedef float vec __attribute__((vector_size(WIDTH)));

// Flops of one round of `multiply_adds`; chains enough to hide the latency of two units.
long flops_of_a_round(void) { return 2L * CHAINS * (long)(sizeof(vec) / sizeof(float)); }

// a = a x + y on every chain, `rounds` times: x below 1 keeps numbers normal.
float multiply_adds(long rounds, float x, float y) {
  vec a[CHAINS];
  for (int i = 0; i < CHAINS; ++i) a[i] = (vec){} + (float)i;
  for (long r = 0; r < rounds; ++r) {
#pragma GCC unroll 16
    for (int i = 0; i < CHAINS; ++i) a[i] = a[i] * x + y;
  }
  vec sum = {};
  for (int i = 0; i < CHAINS; ++i) sum += a[i];
  return sum[0];
}

// The sum of n floats (n a multiple of 8 vectors, aligned to a vector), `rounds` times over.
float read_block(const float* data, long n, long rounds) {
  const vec* block = (const vec*)data;
  const long n_vectors = n / (long)(sizeof(vec) / sizeof(float));
  vec sums[8] = {};
  for (long r = 0; r < rounds; ++r) {
    for (long i = 0; i < n_vectors; i += 8) {
#pragma GCC unroll 8
      for (int j = 0; j < 8; ++j) sums[j] += block[i + j];
    }
    __asm__ volatile("" ::: "memory");  // the block is to be read again in the next round
  }
  vec sum = {};
  for (int j = 0; j < 8; ++j) sum += sums[j];
  return sum[0];
}
