# A Rack middleware that asks authapi whose request it is. Run it: rackup -p 8000 verify.ru
require "json"
require "net/http"
require "timeout"

class RequireUser
  VERIFY = URI("#{ENV.fetch("AUTHAPI_URL", "http://127.0.0.1:3001")}/verify")
  IDLE = Queue.new

  def initialize(app)
    @app = app
  end

  def call(env)
    status, id = verify(env)
    return @app.call(env.merge("authapi.user_id" => id)) if status == "200" && !id.to_s.empty?

    [status == "401" ? 401 : 503, { "content-type" => "text/plain" }, []]
  end

  private

  def verify(env)
    ask = Net::HTTP::Get.new(VERIFY)
    ask["Cookie"], ask["Authorization"] = env.values_at("HTTP_COOKIE", "HTTP_AUTHORIZATION")
    http = nil
    answer = Timeout.timeout(1) { (http = idle_connection || new_connection).request(ask) }
    IDLE << http
    [answer.code, answer["X-Auth-User-Id"]]
  rescue StandardError
    http&.finish
    nil # no answer in time, or none at all: 503
  end

  def idle_connection
    IDLE.pop(true)
  rescue ThreadError
    nil
  end

  def new_connection
    Net::HTTP.start(VERIFY.host, VERIFY.port, nil, use_ssl: VERIFY.scheme == "https", max_retries: 0)
  end
end

use RequireUser
run ->(env) { [200, { "content-type" => "application/json" }, [{ user: env["authapi.user_id"] }.to_json]] }
