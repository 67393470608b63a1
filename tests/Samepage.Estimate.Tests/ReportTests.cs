using System.Text.Json;
using Samepage.Estimate.Report;
using Samepage.Estimate.Sources;

namespace Samepage.EstimateTests;

/// <summary>What a report looks like to programs, and that a page is whole whatever a program is called.</summary>
public sealed class ReportTests
{
    [Fact]
    public void APageHoldsTheWholeReportAndFetchesNothing()
    {
        const string Name = "</script><img src=http://example.com/>";
        string path = Path.GetTempFileName();
        try
        {
            File.WriteAllBytes(path, new byte[3 * 4096]);
            using StringWriter output = new();
            HtmlReport.Write(Counted.Of(new ImageSource(path, Name), new ListedSource(7, "uid:1").With(Counted.Fresh(5))), output);
            string page = output.ToString();
            int begins = page.IndexOf("id=\"report\">", StringComparison.Ordinal) + "id=\"report\">".Length;
            int ends = page.IndexOf("</script>", begins, StringComparison.Ordinal);
            using JsonDocument report = JsonDocument.Parse(page[begins..ends]);
            Assert.Equal(3, report.RootElement.GetProperty("totals").GetProperty("saved_pages").GetInt64());
            Assert.Contains(report.RootElement.GetProperty("domains").EnumerateArray(), domain => domain.GetProperty("name").GetString() == Name);
            Assert.DoesNotMatch("(src|href)=|@import|fetch\\(", page.Remove(begins, ends - begins));
        }
        finally
        {
            File.Delete(path);
        }
    }

    [Theory]
    [InlineData("text", "the quick brown fox jumps over the lazy dog. ")]
    [InlineData("a pattern of 1 byte: ff", "\u00ff")]
    [InlineData("a pattern of 4 bytes: 61626364", "abcd")]
    [InlineData("the beginning of an ELF file", "\u007fELF\u0002\u0001\u0001")]
    public void AGuessNamesWhatAContentLooksLike(string guess, string repeated)
    {
        byte[] page = [.. Enumerable.Range(0, 4096).Select(i => (byte)repeated[i % repeated.Length])];
        Assert.Equal(guess, Estimate.Figures.ContentGuess.Of(page));
    }
}
