using System.Diagnostics;
using System.Globalization;
using Samepage.FleetBench;

// Makes the fingerprints of a synthetic fleet.
//
//   dotnet run -c Release --project benchmarks/fleet -- FOLDER HOSTS PAGES
//
// PAGES is of all hosts together. Of a host's pages 5 % are zeros, 45 % are of one of eight images (each image has as many contents as a host has pages of it,
// so hosts of one image have them in common), 10 % are copies of contents of the host's own, and the rest are the host's alone. So of N pages
// of a host 0.148 N would be saved: 0.05 N zeros, and 0.1 N copies less the two contents of each thousand pages (one in a domain).
if (args.Length != 3 || !int.TryParse(args[1], CultureInfo.InvariantCulture, out int hosts) || !long.TryParse(args[2], CultureInfo.InvariantCulture, out long pages) || hosts < 1 || pages < hosts)
{
    Console.Error.WriteLine("usage: FOLDER HOSTS PAGES");
    return 2;
}

string folder = Directory.CreateDirectory(args[0]).FullName;
long began = Stopwatch.GetTimestamp();
string[] files = [.. Enumerable.Range(0, hosts).Select(host => Path.Combine(folder, $"host{host:d3}.parquet"))];
SyntheticFleet.Write(files, pages / hosts);
Console.WriteLine($"made {files.Length} files, {files.Sum(file => new FileInfo(file).Length) / 1e9:N2} GB, in {Stopwatch.GetElapsedTime(began).TotalSeconds:N1} s");
return 0;
