-- Keeps requests waiting while the map says so. The deadline is in the map: whatever becomes of the control program,
-- a hold ends by itself.
local MAP = os.getenv("MODELSWAP_STATE_MAP")
local MAX_HELD = 512
local POLL_MS = 2

local state = Map.new(MAP, Map._str)
local STALE_MS = 1000
local id, total, longest_ms = "", 0, 0
-- When each request that waits was last seen to wait. HAProxy ends the wait of one who hangs up without a word to us.
local waiting, last = {}, 0
local grpc_errors = 0
-- Whoever counts along must know when the counting has begun anew.
local began = core.now()
local process = string.format("%d.%06d", began.sec, began.usec)

local function deadline() return tonumber(state:lookup("hold") or "0") or 0 end

local function now_ms()
  local now = core.now()
  return now.sec * 1000 + math.floor(now.usec / 1000)
end

-- HAProxy 3.0 looks at the connection of an HTTP/1 client again only once it has a server for his request. Who hangs up
-- meanwhile is found among this network's connections: the kernel waits for our side to close his.
local SCAN_MS = 250
local CLOSE_WAIT = "08"
local scanned, gone = 0, {}

local function scan()
  gone = {}
  local file = io.open("/proc/net/tcp")
  if not file then return end
  for line in file:lines() do
    local peer, status = line:match("^ *%d+: %x+:%x+ (%x+:%x+) (%x%x) ")
    if status == CLOSE_WAIT then gone[peer] = true end
  end
  file:close()
end

-- As the kernel writes it.
local function peer_of(txn)
  local a, b, c, d = tostring(txn.f:src()):match("^(%d+)%.(%d+)%.(%d+)%.(%d+)$")
  return a and string.format("%02X%02X%02X%02X:%04X", d, c, b, a, txn.f:src_port())
end

local function has_hung_up(peer, now)
  if now - scanned >= SCAN_MS then
    scanned = now
    scan()
  end
  return gone[peer]
end

local function held()
  local count, now = 0, now_ms()
  for key, seen in pairs(waiting) do
    if now - seen > STALE_MS then waiting[key] = nil else count = count + 1 end
  end
  return count
end

core.register_action("hold", {"http-req"}, function(txn)
  local current = state:lookup("id") or ""
  if current ~= id then id, total, longest_ms = current, 0, 0 end
  if held() >= MAX_HELD then
    txn:set_var("txn.hold", "shed")
    return
  end
  last, total = last + 1, total + 1
  local key, began, peer = last, now_ms(), peer_of(txn)
  while true do
    local limit, now = deadline(), now_ms()
    if limit == 0 or now > limit then break end
    if now - began > SCAN_MS and has_hung_up(peer, now) then
      waiting[key] = nil
      return
    end
    waiting[key] = now
    core.msleep(POLL_MS)
  end
  waiting[key] = nil
  txn:set_var("txn.hold", "released")
  if current == id then longest_ms = math.max(longest_ms, now_ms() - began) end
end)

-- gRPC tells of an error in its own words: to HTTP, every answer is a 200.
core.register_action("grpc_error", {"http-res"}, function() grpc_errors = grpc_errors + 1 end)

core.register_cli({"show", "modelswap"}, "show modelswap: what the hold has done, and gRPC errors", function(applet)
  local name = id == "" and "-" or id
  applet:send(string.format("%s %d %d %d %d %s\n", name, held(), total, longest_ms, grpc_errors, process))
end)
