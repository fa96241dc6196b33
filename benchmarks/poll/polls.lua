-- Polls of many devices in turn: each line of the file is a device's id, token, ETag, digest.
local threads = 0

function setup(thread)
  thread:set("first", threads)
  threads = threads + 1
end

function init(arguments)
  heads = {}
  local path, host, model, count = arguments[1], arguments[2], arguments[3], tonumber(arguments[4])
  local number = 0
  for line in io.lines(path) do
    -- Each thread has devices of its own, so that none is asked for twice at once.
    if number % count == first then
      local device, token, etag, running = line:match("^(%S+) (%S+) (%S+) (%S+)$")
      local head = "GET /api/models/latest?device_id=" .. device .. "&model=" .. model
        .. " HTTP/1.1\r\nHost: " .. host .. "\r\nAuthorization: Bearer " .. token
        .. "\r\nX-Agent-Version: 1.0.0\r\n"
      if etag ~= "-" then head = head .. "If-None-Match: " .. etag .. "\r\n" end
      if running ~= "-" then head = head .. "X-Running-Digest: " .. running .. "\r\n" end
      heads[#heads + 1] = head .. "\r\n"
    end
    number = number + 1
  end
  turn = 0
end

function request()
  turn = turn % #heads + 1
  return heads[turn]
end
