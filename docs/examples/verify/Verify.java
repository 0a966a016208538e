// An authenticator that asks authapi whose request it is. Run it: java Verify.java
import com.sun.net.httpserver.Authenticator;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpPrincipal;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.List;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;

public class Verify extends Authenticator {
    static final String SERVICE = System.getenv().getOrDefault("AUTHAPI_URL", "http://127.0.0.1:3001");
    static final HttpClient CLIENT = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();

    @Override
    public Result authenticate(HttpExchange exchange) {
        try {
            var ask = HttpRequest.newBuilder(URI.create(SERVICE + "/verify"));
            for (var name : List.of("Cookie", "Authorization"))
                for (var value : exchange.getRequestHeaders().getOrDefault(name, List.of()))
                    ask.header(name, value);
            var answer = send(ask.build());
            var id = answer.headers().firstValue("X-Auth-User-Id");
            if (answer.statusCode() == 200 && !id.orElse("").isEmpty())
                return new Success(new HttpPrincipal(id.get(), "authapi"));
            return new Failure(answer.statusCode() == 401 ? 401 : 503);
        } catch (Exception noAnswer) {
            return new Failure(503);
        }
    }

    static HttpResponse<Void> send(HttpRequest ask) throws Exception {
        var asked = CLIENT.sendAsync(ask, BodyHandlers.discarding());
        try {
            return asked.get(1, TimeUnit.SECONDS);
        } finally {
            asked.cancel(true); // closes the connection of an answer that did not end
        }
    }

    static void welcome(HttpExchange exchange) throws IOException {
        var body = "{\"user\": \"%s\"}".formatted(exchange.getPrincipal().getUsername()).getBytes();
        exchange.getResponseHeaders().set("Content-Type", "application/json");
        exchange.sendResponseHeaders(200, body.length);
        exchange.getResponseBody().write(body);
        exchange.close();
    }

    public static void main(String[] arguments) throws IOException {
        var server = HttpServer.create(new InetSocketAddress("127.0.0.1", 8000), 0);
        server.createContext("/", Verify::welcome).setAuthenticator(new Verify());
        server.setExecutor(Executors.newFixedThreadPool(16));
        server.start();
    }
}
