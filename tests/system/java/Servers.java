/* Three servers in one program, one for each way in which Java waits for sockets: the JDK's HTTP
 * server, a selector, and threads that block. */
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.util.concurrent.Executors;

public class Servers {
  /* Answers with the body of the request. */
  static void answer(HttpExchange exchange) throws IOException {
    byte[] body = exchange.getRequestBody().readAllBytes();
    exchange.sendResponseHeaders(200, body.length == 0 ? -1 : body.length);
    try (OutputStream out = exchange.getResponseBody()) {
      out.write(body);
    }
    exchange.close();
  }

  static void serveHttp(int port) throws IOException {
    HttpServer server = HttpServer.create(new InetSocketAddress(port), 0);
    server.createContext("/", Servers::answer);
    server.setExecutor(Executors.newCachedThreadPool());
    server.start();
  }

  /* Bytes that were read and not yet written; interest in writing only while there are some. */
  static void echoReady(SelectionKey key) throws IOException {
    SocketChannel peer = (SocketChannel) key.channel();
    ByteBuffer waiting = (ByteBuffer) key.attachment();
    boolean ended = key.isReadable() && peer.read(waiting) < 0;
    waiting.flip();
    peer.write(waiting);
    waiting.compact();
    if (ended && waiting.position() == 0) {
      peer.close();
      return;
    }
    boolean room = waiting.hasRemaining() && !ended;
    key.interestOps((room ? SelectionKey.OP_READ : 0)
        | (waiting.position() != 0 ? SelectionKey.OP_WRITE : 0));
  }

  static void serveSelector(int port) throws IOException {
    Selector selector = Selector.open();
    ServerSocketChannel listener = ServerSocketChannel.open();
    listener.bind(new InetSocketAddress(port));
    listener.configureBlocking(false);
    listener.register(selector, SelectionKey.OP_ACCEPT);
    Thread loop = new Thread(() -> {
      try {
        while (true) {
          selector.select();
          for (SelectionKey key : selector.selectedKeys()) {
            if (!key.isAcceptable()) {
              echoReady(key);
              continue;
            }
            SocketChannel peer = listener.accept();
            if (peer == null) continue;
            peer.configureBlocking(false);
            peer.register(selector, SelectionKey.OP_READ, ByteBuffer.allocateDirect(1 << 16));
          }
          selector.selectedKeys().clear();
        }
      } catch (IOException e) {
        e.printStackTrace();
        System.exit(1);
      }
    });
    loop.start();
  }

  static void echo(Socket peer) {
    try (peer) {
      InputStream in = peer.getInputStream();
      in.transferTo(peer.getOutputStream());
    } catch (IOException e) {
      e.printStackTrace();
    }
  }

  static void serveThreads(int port) throws IOException {
    ServerSocket listener = new ServerSocket(port);
    new Thread(() -> {
      try {
        while (true) {
          Socket peer = listener.accept();
          new Thread(() -> echo(peer)).start();
        }
      } catch (IOException e) {
        e.printStackTrace();
      }
    }).start();
  }

  public static void main(String[] arguments) throws IOException {
    serveHttp(8080);
    serveSelector(7001);
    serveThreads(7002);
    System.out.println("ready");
  }
}
