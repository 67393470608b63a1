using System.Globalization;
using System.Net;
using System.Security.Cryptography;

namespace Samepage.SystemTests.Harness;

/// <summary>A server of HTTP that nobody here wrote, with content that we know: the same in every one of its kind.</summary>
internal sealed class ServiceUnderTest : IAsyncDisposable
{
    private const int Blocks = 24;

    /// <summary>Each answer is a block of what it keeps in memory, out of a moving collector's hands or in them.</summary>
    private const string Node = """
        const crypto = require('crypto'), http = require('http');
        const blocks = [];
        for (let i = 0; i < 24; i++) {
          const seed = crypto.createHash('sha256').update(String(i)).digest(), block = Buffer.alloc(1 << 20);
          for (let at = 0; at < block.length; at += 32) seed.copy(block, at);
          blocks.push(block);
        }
        http.createServer((request, response) => {
          const garbage = []; for (let i = 0; i < 2000; i++) garbage.push({i, s: 'x' + i});
          response.end(blocks[Number(request.url.slice(1))].subarray(0, 65536 + garbage.length * 0));
        }).listen(Number(process.argv[1]), '127.0.0.1', () => console.log('ready'));
        """;

    private const string Java = """
        import com.sun.net.httpserver.HttpServer;
        import java.net.InetSocketAddress;
        import java.security.MessageDigest;
        public class Service {
            public static void main(String[] arguments) throws Exception {
                byte[][] blocks = new byte[24][1 << 20];
                for (int i = 0; i < blocks.length; i++) {
                    byte[] seed = MessageDigest.getInstance("SHA-256").digest(Integer.toString(i).getBytes());
                    for (int at = 0; at < blocks[i].length; at += 32) System.arraycopy(seed, 0, blocks[i], at, 32);
                }
                HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", Integer.parseInt(arguments[0])), 0);
                server.createContext("/", exchange -> {
                    byte[] garbage = new byte[200000];
                    int block = Integer.parseInt(exchange.getRequestURI().getPath().substring(1));
                    exchange.sendResponseHeaders(200, 65536);
                    exchange.getResponseBody().write(blocks[block], garbage[block], 65536);
                    exchange.close();
                });
                server.start();
                System.out.println("ready");
            }
        }
        """;

    private readonly HttpClient _http;
    private readonly string _folder;

    private ServiceUnderTest(string folder, int port, LiveProgram server)
    {
        (_folder, Server) = (folder, server);
        _http = new HttpClient { BaseAddress = new Uri($"http://127.0.0.1:{port}"), Timeout = TimeSpan.FromSeconds(20) };
    }

    public LiveProgram Server { get; }

    /// <summary>The server and its workers.</summary>
    public int[] Processes => [Server.Pid, .. File.ReadAllText($"/proc/{Server.Pid}/task/{Server.Pid}/children")
        .Split(' ', StringSplitOptions.RemoveEmptyEntries).Select(pid => int.Parse(pid, CultureInfo.InvariantCulture))];

    /// <param name="kind">node, java or nginx.</param>
    public static async Task<ServiceUnderTest> Start(string kind)
    {
        string folder = Directory.CreateTempSubdirectory("samepage-service-").FullName;
        int port = Outside.FreePort();
        LiveProgram server;
        if (kind == "node")
        {
            server = LiveProgram.Start(Needs.Program("node", "nodejs"), "-e", Node, $"{port}");
            await server.Ready();
        }
        else if (kind == "java")
        {
            await File.WriteAllTextAsync(Path.Combine(folder, "Service.java"), Java);
            server = LiveProgram.Start(Needs.Program("java", "default-jdk-headless"), "-Xmx160m", "-XX:+UseSerialGC", Path.Combine(folder, "Service.java"), $"{port}");
            await server.Ready();
        }
        else
        {
            for (int i = 0; i < Blocks; i++)
                await File.WriteAllBytesAsync(Path.Combine(folder, $"{i}"), Block(i));
            // Compressed on the way, so that it works in memory of its own.
            await File.WriteAllTextAsync(Path.Combine(folder, "nginx.conf"), $$"""
                daemon off; pid {{folder}}/pid; error_log stderr; user root; worker_processes 2;
                events { worker_connections 64; }
                http { access_log off; gzip on; gzip_types *; gzip_min_length 1; default_type application/x;
                  client_body_temp_path {{folder}}/t1; proxy_temp_path {{folder}}/t2; fastcgi_temp_path {{folder}}/t3; uwsgi_temp_path {{folder}}/t4; scgi_temp_path {{folder}}/t5;
                  server { listen 127.0.0.1:{{port}}; root {{folder}}; } }
                """);
            server = LiveProgram.Start(Needs.Program("nginx", "nginx-light"), "-c", Path.Combine(folder, "nginx.conf"), "-p", folder);
        }

        var service = new ServiceUnderTest(folder, port, server);
        await Until.True(service.Answers, 30, () => Task.FromResult($"{kind} answers: {server.Errors}"));
        return service;
    }

    /// <summary>Asks for everything, over and over, and checks every byte of every answer.</summary>
    /// <returns>Answers.</returns>
    public async Task<int> Load(CancellationToken end)
    {
        int answers = 0;
        for (; !end.IsCancellationRequested; answers++)
        {
            byte[] answer = await Get(answers % Blocks);
            Assert.True(answer.AsSpan().SequenceEqual(Block(answers % Blocks)), $"block {answers % Blocks} of {Server.Name} ({Server.Pid}) is not what was stored");
        }

        return answers;
    }

    public async ValueTask DisposeAsync()
    {
        _http.Dispose();
        if (!Server.HasExited && Processes.Length > 1)
            await Outside.Run(10, "kill", "-TERM", $"{Server.Pid}"); // its workers go with it
        if (!Server.HasExited)
            await Task.WhenAny(Server.Ends(5), Task.Delay(1000));
        await Server.DisposeAsync();
        Directory.Delete(_folder, recursive: true);
    }

    private static byte[] Block(int index)
    {
        byte[] seed = SHA256.HashData(System.Text.Encoding.ASCII.GetBytes(index.ToString(CultureInfo.InvariantCulture))), block = new byte[65536];
        for (int at = 0; at < block.Length; at += seed.Length)
            seed.CopyTo(block, at);
        return block;
    }

    private async Task<byte[]> Get(int block)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, $"/{block}");
        request.Headers.AcceptEncoding.ParseAdd("gzip");
        using HttpResponseMessage response = await _http.SendAsync(request);
        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        await using Stream body = await response.Content.ReadAsStreamAsync();
        using var whole = new MemoryStream();
        if (response.Content.Headers.ContentEncoding.Contains("gzip"))
            await new System.IO.Compression.GZipStream(body, System.IO.Compression.CompressionMode.Decompress).CopyToAsync(whole);
        else
            await body.CopyToAsync(whole);
        return whole.ToArray();
    }

    private async Task<bool> Answers()
    {
        Assert.False(Server.HasExited, Server.Errors);
        try
        {
            await Get(0);
            return true;
        }
        catch (HttpRequestException)
        {
            return false;
        }
    }
}
