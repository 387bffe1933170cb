// Walks through the service with the client that oapi-codegen generates, and prints what it was answered.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
)

func main() {
	result, err := walk(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	_ = json.NewEncoder(os.Stdout).Encode(result)
}

func walk(ctx context.Context) (map[string]any, error) {
	admin, err := client(os.Getenv("ADMIN_TOKEN"))
	if err != nil {
		return nil, err
	}
	user, _ := client(os.Getenv("USER_TOKEN"))
	anonymous, _ := client("")
	proxy := os.Getenv("PROXY_ROLE")
	mapping := RoleMappingUpdate{DominoOrg: "data-science", IamRoleArn: os.Getenv("TARGET_ROLE"), ProxyIamRoleArn: proxy}

	dryRun := true
	tried, err := admin.UpdateRoleMappingWithResponse(ctx, &UpdateRoleMappingParams{DryRun: &dryRun}, mapping)
	if err != nil || tried.JSON200 == nil {
		return nil, fmt.Errorf("the dry run: %v %s", err, tried.Body)
	}
	preview, err := tried.JSON200.AsMappingPreview()
	if err != nil {
		return nil, err
	}
	changed, err := admin.UpdateRoleMappingWithResponse(ctx, &UpdateRoleMappingParams{}, mapping)
	if err != nil || changed.JSON200 == nil {
		return nil, fmt.Errorf("the mapping: %v %s", err, changed.Body)
	}
	stored, err := changed.JSON200.AsStoredMappings()
	if err != nil {
		return nil, err
	}
	proxies := []string{}
	for _, entry := range stored.RoleData {
		proxies = append(proxies, entry.ProxyIamRoleArn)
	}
	config, err := user.MapIamRolesToPodSaWithResponse(ctx, RunRequest{RunId: os.Getenv("RUN_ID")})
	if err != nil || config.StatusCode() != http.StatusOK {
		return nil, fmt.Errorf("the config: %v %s", err, config.Body)
	}
	missing, err := user.MapIamRolesToPodSaWithResponse(ctx, RunRequest{RunId: strings.Repeat("0", 24)})
	if err != nil || missing.ApplicationproblemJSON404 == nil {
		return nil, fmt.Errorf("the missing run: %v %s", err, missing.Body)
	}
	status, err := admin.GetTrustStatusWithResponse(ctx, &GetTrustStatusParams{ProxyIamRoleArn: &proxy})
	if err != nil || status.JSON200 == nil {
		return nil, fmt.Errorf("the trust status: %v %s", err, status.Body)
	}
	members := []string{}
	for _, role := range status.JSON200.ProxyRoles {
		if role.ProxyIamRoleArn == proxy {
			members = append(members, role.Members[0].ServiceAccount)
		}
	}
	nobody, err := anonymous.GetMyRoleMappingsWithResponse(ctx)
	if err != nil || nobody.ApplicationproblemJSON401 == nil {
		return nil, fmt.Errorf("without a token: %v %s", err, nobody.Body)
	}
	return map[string]any{
		"preview_fits": preview.Fits,
		"stored":       proxies,
		"profile":      strings.Split(string(config.Body), "\n")[1],
		"missing_run":  missing.ApplicationproblemJSON404.Code,
		"members":      members,
		"nobody":       nobody.ApplicationproblemJSON401.Code,
	}, nil
}

func client(token string) (*ClientWithResponses, error) {
	roots := x509.NewCertPool()
	pem, err := os.ReadFile(os.Getenv("IRSA_CA"))
	if err != nil {
		return nil, err
	}
	roots.AppendCertsFromPEM(pem)
	trusting := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	authorize := func(_ context.Context, request *http.Request) error {
		if token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
		}
		return nil
	}
	return NewClientWithResponses(os.Getenv("IRSA_URL"), WithHTTPClient(trusting), WithRequestEditorFn(authorize))
}
