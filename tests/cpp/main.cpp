#include "check.hpp"

int main() {
  for (const auto& test : check::all()) {
    const int before = check::failures;
    test.run();
    std::printf("%s %s\n", check::failures == before ? "ok  " : "FAIL", test.name);
  }
  std::printf("%zu tests, %d failed checks\n", check::all().size(), check::failures);
  return check::failures == 0 ? 0 : 1;
}
