using System.Diagnostics;
using Samepage.Cli;
using Spectre.Console;

namespace Samepage.Demo;

/// <summary>What the demo shows: headings, sentences, checks and progress; drawn on a terminal, plain lines otherwise.</summary>
internal sealed class DemoScreen
{
    private readonly bool _plain = Console.IsOutputRedirected;
    private int _stage;

    /// <summary>Checks that held.</summary>
    public int Held { get; private set; }

    /// <summary>Checks that did not.</summary>
    public int Failed { get; private set; }

    public void Stage(string title)
    {
        _stage++;
        if (_plain)
        {
            if (_stage > 1)
                Output.Line();
            Output.Line($"== {_stage}. {title}");
        }
        else
        {
            Output.Line();
            AnsiConsole.Write(new Rule($"[bold]{_stage}. {Markup.Escape(title)}[/]").LeftJustified());
        }
    }

    public void Say(string text)
    {
        if (_plain)
            Output.Line(text);
        else
            AnsiConsole.MarkupLineInterpolated($"{text}");
    }

    /// <summary>Shows a check, and counts it.</summary>
    public void Check(bool held, string what)
    {
        if (held)
            Held++;
        else
            Failed++;
        if (_plain)
            Output.Line($"{(held ? "ok    " : "FAILED")} {what}");
        else
            AnsiConsole.MarkupLine($"{(held ? "[green]ok    [/]" : "[bold red]FAILED[/]")} {Markup.Escape(what)}");
    }

    /// <summary>Shows progress while the work goes on; the work reports how far it is, from 0 to 1, and a word on it.</summary>
    public async Task FollowAsync(Func<Action<double, string>, Task> work)
    {
        if (_plain)
        {
            Stopwatch sinceLine = new();
            string last = "";
            await work((fraction, text) =>
            {
                last = $"{fraction,5:P0}  {text}";
                if (sinceLine.IsRunning && sinceLine.ElapsedMilliseconds < 1000)
                    return;
                sinceLine.Restart();
                Output.Line(last);
                last = "";
            });
            if (last.Length > 0)
                Output.Line(last);
            return;
        }
        await AnsiConsole.Progress().StartAsync(async context =>
        {
            ProgressTask bar = context.AddTask("…", maxValue: 1);
            await work((fraction, text) =>
            {
                bar.Value = fraction;
                bar.Description = Markup.Escape(text);
            });
        });
    }
}
