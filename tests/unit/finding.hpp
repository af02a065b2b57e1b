// What a test says that fails by chance, but not for the machine's other work.
#pragma once

namespace culvert::test {

/// INFO(kRace) in a test of threads: a claim that fails there once is not tried again
/// (tests/tools/retries.py), for the next run is another race.
inline constexpr const char* kRace = "FINDING: a race, which a slow machine does not excuse";

}  // namespace culvert::test
