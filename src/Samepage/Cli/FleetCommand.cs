using System.CommandLine;
using System.Data.Common;
using System.Diagnostics;
using System.Globalization;
using Samepage.Fleet;
using Samepage.Linux;

namespace Samepage.Cli;

/// <summary><c>samepage fleet</c>: what many hosts have in common.</summary>
internal static class FleetCommand
{
    private const int MemoryMax = 1 << 20, MemoryUsual = 4;

    private const string More = """
        Reads files of fingerprints that 'samepage estimate --parquet' wrote on the hosts of a fleet,
        all with the same key, and answers what merging would save on each host, which programs hold
        the same memory everywhere, which workloads have contents in common, and which hosts to put
        together. The statements are those of docs/fleet.sql, plain SQL that Spark and Trino should
        take as well.

        Of large fleets one content of N is looked at, so that about fifty million pages are; --sample
        sets it, 1/1 looks at all. More than 16 million fingerprints are put into parts in a temporary
        folder under TMPDIR first: some 8 bytes for each that is looked at.

        Examples:
          samepage fleet hosts/*.parquet
          samepage fleet hosts/*.parquet --sample 1/1 --memory 12 --json
        """;

    public static Command Create()
    {
        Argument<string[]> files = new("FILE") { Description = "Files of fingerprints.", Arity = ArgumentArity.OneOrMore };
        Option<int> sample = new("--sample") { Description = "Look at one content of N, by its fingerprint.", HelpName = "1/N", CustomParser = EstimateCommand.ParseSample };
        Option<int> memory = new("--memory")
        {
            Description = $"Memory that the queries may take, GiB (default {MemoryUsual}).",
            HelpName = "GIB",
            DefaultValueFactory = _ => MemoryUsual,
            CustomParser = result =>
            {
                if (int.TryParse(result.Tokens[0].Value, NumberStyles.None, CultureInfo.InvariantCulture, out int gib) && gib is >= 1 and <= MemoryMax)
                    return gib;
                result.AddError($"'{result.Tokens[0].Value}' is no amount of memory: 1 to {MemoryMax} GiB");
                return MemoryUsual;
            },
        };
        Option<bool> json = Arguments.Json();
        DocumentedCommand command = new("fleet", "Tell what the hosts of a fleet have in common.", More) { files, sample, memory, json };
        command.SetAction((parsed, cancellation) => Task.Run(() => Run(parsed.GetRequiredValue(files), parsed.GetValue(sample), parsed.GetValue(memory), parsed.GetValue(json), cancellation), CancellationToken.None));
        return command;
    }

    private static int Run(string[] files, int oneOf, int memoryGib, bool json, CancellationToken cancellation)
    {
        foreach (string file in files)
        {
            // Patterns with * are DuckDB's to match.
            Errno errno = FileFacts.TryRead(file, follow: true, out FileFacts facts);
            if (errno != Errno.None || facts.Kind != FileKind.File)
                throw new CommandException(ExitCode.Failed, errno == Errno.None ? $"{file} is {facts.Words}, and no file" : $"there is no file {file} ({errno})", "give files that 'samepage estimate --parquet' wrote");
        }

        string folder = Directory.CreateTempSubdirectory("samepage-fleet-").FullName;
        try
        {
            long began = Stopwatch.GetTimestamp();
            using FleetQueries queries = new(files, (long)memoryGib << 30, folder);
            long kept = oneOf > 0 ? oneOf : queries.OneOfSuited;
            queries.Sample(kept, cancellation);
            List<Answer> answers = [];
            foreach (string name in FleetQueries.Names)
            {
                cancellation.ThrowIfCancellationRequested();
                answers.Add(queries.Ask(name, cancellation));
            }

            FleetReply reply = new(queries.Rows, files.Length, kept, Math.Round(Stopwatch.GetElapsedTime(began).TotalSeconds, 2), [.. answers.Select(FleetAnswer.Of)]);
            if (json)
                Output.Json(reply, CliJson.Default.FleetReply);
            else
                Print(reply, answers);
            return ExitCode.Done;
        }
        catch (DbException) when (cancellation.IsCancellationRequested)
        {
            throw new OperationCanceledException(cancellation);
        }
        catch (DbException refused)
        {
            throw new CommandException(ExitCode.Failed, $"the files cannot be asked: {refused.Message}", "give files that 'samepage estimate --parquet' wrote, or more --memory, or room under TMPDIR");
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static void Print(FleetReply reply, List<Answer> answers)
    {
        Output.Line($"{Quantity.Count(reply.Fingerprints)} fingerprints in {reply.Files} files, {reply.Seconds.ToString("N1", CultureInfo.InvariantCulture)} s; figures are pages of 4 KiB"
            + (reply.OneOf > 1 ? $", estimated from one content of {reply.OneOf}" : ""));
        foreach (Answer answer in answers)
        {
            Output.Line($"\n{answer.Name}");
            Table table = new([.. answer.Columns.Select(column => answer.Rows.Count > 0 && IsNumber(answer.Rows[0][answer.Columns.ToList().IndexOf(column)]) ? ">" + column.Replace('_', ' ') : column.Replace('_', ' '))]);
            foreach (string[] row in answer.Rows)
                table.Add([.. row.Select(cell => IsNumber(cell) ? Quantity.Count(long.Parse(cell, CultureInfo.InvariantCulture)) : cell)]);
            table.Write();
        }
    }

    private static bool IsNumber(string cell) => long.TryParse(cell, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out _);
}

/// <summary>What <c>fleet --json</c> prints.</summary>
/// <param name="Fingerprints">Pages in all files.</param>
/// <param name="Files">How many files.</param>
/// <param name="OneOf">One content of so many was looked at.</param>
/// <param name="Seconds">What it took.</param>
/// <param name="Answers">An answer to each statement of docs/fleet.sql.</param>
internal sealed record FleetReply(long Fingerprints, int Files, long OneOf, double Seconds, FleetAnswer[] Answers);

/// <summary>One answer.</summary>
/// <param name="Name">The statement's name.</param>
/// <param name="Rows">Its rows: the columns' names with what they hold.</param>
internal sealed record FleetAnswer(string Name, Dictionary<string, string>[] Rows)
{
    public static FleetAnswer Of(Answer answer) => new(answer.Name, [.. answer.Rows.Select(row => answer.Columns.Zip(row).ToDictionary(cell => cell.First, cell => cell.Second))]);
}
