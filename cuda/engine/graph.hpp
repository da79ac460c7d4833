// A layer, captured once and launched again and again.
#pragma once

#include "platform/device.hpp"

namespace redunet::cuda {

class Graph {
 public:
  template <class F>
  explicit Graph(const F& layer) {
    const cudaStream_t stream = Device::get().stream();
    REDUNET_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    cudaGraph_t graph = nullptr;
    try {
      layer();
    } catch (...) {
      cudaStreamEndCapture(stream, &graph);
      cudaGraphDestroy(graph);
      throw;
    }
    REDUNET_CHECK(cudaStreamEndCapture(stream, &graph));
    const cudaError_t error = instantiate(&executable_, graph);
    cudaGraphDestroy(graph);
    check(error, "cudaGraphInstantiate", __FILE__, __LINE__);
  }
  ~Graph() { cudaGraphExecDestroy(executable_); }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  void run() const { REDUNET_CHECK(cudaGraphLaunch(executable_, Device::get().stream())); }

 private:
  cudaGraphExec_t executable_ = nullptr;
};

}  // namespace redunet::cuda
