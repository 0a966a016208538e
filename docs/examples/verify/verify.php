<?php
// A function that asks authapi whose request it is. Run it: php -S 127.0.0.1:8000 verify.php
declare(strict_types=1);

function require_user(): string
{
    $id = '';
    $curl = curl_init((getenv('AUTHAPI_URL') ?: 'http://127.0.0.1:3001') . '/verify');
    curl_setopt_array($curl, [
        CURLOPT_HTTPHEADER => [
            'Cookie: ' . ($_SERVER['HTTP_COOKIE'] ?? ''),
            'Authorization: ' . ($_SERVER['HTTP_AUTHORIZATION'] ?? ''),
        ],
        CURLOPT_TIMEOUT_MS => 1000,
        CURLOPT_PROXY => '',
        CURLOPT_RETURNTRANSFER => true,
        CURLOPT_HEADERFUNCTION => function ($curl, string $line) use (&$id, &$head): int {
            if (str_starts_with($line, 'HTTP/')) {
                [$id, $head] = ['', true]; // an interim answer's id, such as a 103's, does not count
            }
            $head = $head && trim($line) !== ''; // neither does that of a trailer
            [$name, $value] = explode(':', $line, 2) + [1 => ''];
            $id = $head && strcasecmp($name, 'X-Auth-User-Id') === 0 ? trim($value) : $id;
            return strlen($line);
        },
    ]);
    $status = curl_exec($curl) === false ? 503 : curl_getinfo($curl, CURLINFO_RESPONSE_CODE);
    if ($status === 200 && $id !== '') {
        return $id;
    }
    http_response_code($status === 401 ? 401 : 503);
    exit;
}

$user = require_user();
header('Content-Type: application/json');
echo json_encode(['user' => $user]);
