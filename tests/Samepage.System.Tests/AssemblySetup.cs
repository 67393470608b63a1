using Xunit.Sdk;
using Xunit.v3;

// Daemons, targets and the machine's memory are shared by all tests: one test at a time.
[assembly: Parallelization(Mode = ParallelMode.None)]
