using Xunit.Sdk;
using Xunit.v3;

// Most of a test's time is waiting, so two classes run at a time. Each daemon has a run directory and programs of its own. What is the machine's, tests may change
// for a moment only where no other test depends on it: vm.max_map_count to what is still enough for the others, where cores go, more swap.
// More at a time would make holds and merges of one test wait for processors that another has.
[assembly: Parallelization(Mode = ParallelMode.Collections, MaxThreads = 2)]
