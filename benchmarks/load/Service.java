import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;
import java.util.concurrent.Executors;

/**
 * The service of http.js in Java: the same blocks, the same answers. All blocks are one array, which lies in the heap
 * where it lies in every other virtual machine: as the first of the old generation, too large for the young one. Arrays of a block
 * each would lie a few words further on in one than in the other, and no page would be equal.
 *
 * <p>java Service.java FILE: listens at a free port of the loopback interface, and writes its number into the file.
 */
public class Service {
    private static final int PAGE_BYTES = 4096, PAGES = 256, WINDOW_PAGES = 16, BLOCKS = 200;

    public static void main(String[] arguments) throws Exception {
        byte[] blocks = new byte[BLOCKS * PAGES * PAGE_BYTES];
        for (int page = 0; page < BLOCKS * PAGES; page++) fill(blocks, page);
        System.gc(); // what is left of starting goes
        HttpServer server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
        server.createContext("/", exchange -> {
            String[] path = exchange.getRequestURI().getPath().split("/");
            int block = Integer.parseInt(path[1]), window = (block * PAGES + Integer.parseInt(path[2]) * WINDOW_PAGES) * PAGE_BYTES;
            blocks[(block * PAGES + block) * PAGE_BYTES] = Byte.parseByte(path[3]);
            byte[] digest = hexDigest(blocks, window);
            exchange.sendResponseHeaders(200, digest.length + 2 * PAGE_BYTES);
            try (OutputStream body = exchange.getResponseBody()) {
                body.write(digest);
                body.write(blocks, window, 2 * PAGE_BYTES);
            }
        });
        server.setExecutor(Executors.newFixedThreadPool(8));
        server.start();
        Files.writeString(Path.of(arguments[0]), Integer.toString(server.getAddress().getPort()));
    }

    private static void fill(byte[] blocks, int page) throws NoSuchAlgorithmException {
        String name = page / PAGES + "/" + page % PAGES;
        byte[] digest = MessageDigest.getInstance("SHA-256").digest(name.getBytes(StandardCharsets.US_ASCII));
        for (int at = 0; at < PAGE_BYTES; at += digest.length)
            System.arraycopy(digest, 0, blocks, page * PAGE_BYTES + at, digest.length);
    }

    private static byte[] hexDigest(byte[] bytes, int window) throws IOException {
        try {
            MessageDigest sha1 = MessageDigest.getInstance("SHA-1");
            sha1.update(bytes, window, WINDOW_PAGES * PAGE_BYTES);
            return HexFormat.of().formatHex(sha1.digest()).getBytes(StandardCharsets.US_ASCII);
        } catch (NoSuchAlgorithmException missing) {
            throw new IOException(missing);
        }
    }
}
